// Operations on single rows: one group a row. GROUP: lanes of a group, a power of two. Barriers stand in no condition: a group
// behind the step's rows runs loops of no turns.

// y = x / sqrt(mean(x^2) + epsilon) * w; hasWeight 0: w is all ones. add: y += instead. x may be y.
KERNEL(GROUP) rms_norm(
    GLOBAL const int* RESTRICT step, GLOBAL const float* x, GLOBAL const float* RESTRICT w, GLOBAL float* y,
    const int columns, const float epsilon, const int hasWeight, const int add)
{
    SHARED float scratch[GROUP];
    const int n = GROUP_X < step[STEP_ROWS] ? columns : 0;
    const size_t at = (size_t)GROUP_X * columns;
    float sum = 0;
    for (int i = LANE; i < n; i += GROUP) sum += x[at + i] * x[at + i];
    const float inverse = 1.0f / sqrt(group_sum(sum, scratch) / columns + epsilon);
    for (int i = LANE; i < n; i += GROUP) {
        const float normed = x[at + i] * inverse * (hasWeight ? w[i] : 1.0f);
        y[at + i] = add ? y[at + i] + normed : normed;
    }
}

// x = (x + RMS(delta; post)) * scale; normed = RMS(x; next) where hasNext.
KERNEL(GROUP) add_norm(
    GLOBAL const int* RESTRICT step, GLOBAL float* RESTRICT x, GLOBAL const float* RESTRICT delta, GLOBAL const float* RESTRICT post,
    const float scale, GLOBAL const float* RESTRICT next, GLOBAL float* RESTRICT normed, const int columns, const float epsilon, const int hasNext)
{
    SHARED float scratch[GROUP];
    const int n = GROUP_X < step[STEP_ROWS] ? columns : 0;
    const size_t at = (size_t)GROUP_X * columns;
    float sum = 0;
    for (int i = LANE; i < n; i += GROUP) sum += delta[at + i] * delta[at + i];
    const float inverse = 1.0f / sqrt(group_sum(sum, scratch) / columns + epsilon);
    float sumNext = 0;
    for (int i = LANE; i < n; i += GROUP) {
        const float value = (x[at + i] + delta[at + i] * inverse * post[i]) * scale;
        x[at + i] = value;
        sumNext += value * value;
    }
    const float inverseNext = 1.0f / sqrt(group_sum(sumNext, scratch) / columns + epsilon);
    // Each lane reads what it wrote itself.
    for (int i = LANE; i < (hasNext ? n : 0); i += GROUP) normed[at + i] = x[at + i] * inverseNext * next[i];
}

// y = gelu_tanh(y) * ple[:, layer]; ple has layers * columns to a row.
KERNEL(GROUP) gate_by_input(
    GLOBAL const int* RESTRICT step, GLOBAL float* RESTRICT y, GLOBAL const float* RESTRICT ple, const int columns, const int layers, const int layer)
{
    if (GROUP_X >= step[STEP_ROWS]) return;
    const size_t at = (size_t)GROUP_X * columns, from = ((size_t)GROUP_X * layers + layer) * columns;
    for (int i = LANE; i < columns; i += GROUP) y[at + i] = gelu_tanh(y[at + i]) * ple[from + i];
}
