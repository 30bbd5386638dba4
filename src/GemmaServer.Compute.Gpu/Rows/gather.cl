// Rows of tables, by token: one group of lanes a row. Headers: weights.h, the table's type. GROUP: lanes of a group.
// A table may be in parts: w has the rows of tokens firstToken .. firstToken + count - 1, and other tokens are left to other launches.

// y = [table[token] * scale | x]: rows of columns + beside values, x has beside of them.
KERNEL(GROUP) embed(
    GLOBAL const int* RESTRICT step, GLOBAL const int* RESTRICT tokens, const int firstToken, const int count, WEIGHTS(w), const float scale, GLOBAL const float* RESTRICT x, const int beside,
    GLOBAL float* RESTRICT y, const int columns, const int groups)
{
    const int row = GROUP_X;
    if (row >= step[STEP_ROWS]) return;
    const int token = tokens[row] - firstToken;
    if (token < 0 || token >= count) return;
    const Planes table = PLANES(w);
    GLOBAL float* to = y + (size_t)row * (columns + beside);
    const int first = token * groups;
    for (int i = LANE; i < 4 * groups; i += GROUP) {
        float values[8];
        decode8(table, first + i / 4, i % 4, values);
        for (int e = 0; e < 8; e++) {
            const int column = 32 * (i / 4) + 16 * (e / 4) + 4 * (i % 4) + e % 4;
            if (column < columns) to[column] = values[e] * scale;
        }
    }
    for (int i = LANE; i < beside; i += GROUP) to[columns + i] = x[(size_t)row * beside + i];
}

// ple[row, layer] = (RMS(ple[row, layer] * contextScale; norm) + table[token][layer] * tableScale) / sqrt(2), width values each;
// the layer is GROUP_Y.
KERNEL(GROUP) per_layer_inputs(
    GLOBAL const int* RESTRICT step, GLOBAL const int* RESTRICT tokens, const int firstToken, const int count, GLOBAL float* RESTRICT ple, const float contextScale,
    GLOBAL const float* RESTRICT norm, WEIGHTS(w), const float tableScale, const int columns, const int groups, const int width, const float epsilon)
{
    SHARED float scratch[GROUP];
    const int row = GROUP_X, token = row < step[STEP_ROWS] ? tokens[row] - firstToken : -1;
    const int isThere = token >= 0 && token < count, n = isThere ? width : 0;
    const int at = GROUP_Y * width;
    GLOBAL float* layer = ple + (size_t)row * columns + at;
    float sum = 0;
    for (int i = LANE; i < n; i += GROUP) {
        const float value = layer[i] * contextScale;
        sum += value * value;
    }
    const float inverse = 1.0f / sqrt(group_sum(sum, scratch) / width + epsilon);

    const Planes table = PLANES(w);
    // Groups of 32 columns that the layer's share of the row touches.
    const int from = at / 32 * 4, end = isThere ? (at + width + 31) / 32 * 4 : from;
    const int first = isThere ? token * groups : 0;
    for (int q = from + LANE; q < end; q += GROUP) {
        float values[8];
        decode8(table, first + q / 4, q % 4, values);
        for (int e = 0; e < 8; e++) {
            const int i = 32 * (q / 4) + 16 * (e / 4) + 4 * (q % 4) + e % 4 - at;
            if (i >= 0 && i < width) layer[i] = (layer[i] * contextScale * inverse * norm[i] + values[e] * tableScale) * 0.70710678118654752f;
        }
    }
}
