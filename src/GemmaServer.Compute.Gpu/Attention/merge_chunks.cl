// Adds up the chunks of blocks of one row in ascending order: one group for each head of a row. GROUP: lanes; CHUNK: keys of a chunk.
KERNEL(GROUP) merge_chunks(
    GLOBAL const int* RESTRICT blocks, GLOBAL const int* RESTRICT rows, GLOBAL const float* RESTRICT partial, GLOBAL const float* RESTRICT stats,
    GLOBAL float* RESTRICT heads, const int headCount, const int headColumns, const int window, const int pastOnly, const int chunks)
{
    if (GROUP_X >= blocks[0]) return;
    const int row = blocks[2 + 2 * GROUP_X], position = rows[4 * row + 1];
    const int from = window > 0 ? max(position - window + 1, 0) : 0, to = position + 1 - pastOnly;
    const int count = to > from ? (to + CHUNK - 1) / CHUNK - from / CHUNK : 0;
    const size_t place = ((size_t)GROUP_X * headCount + GROUP_Y) * chunks, y = (size_t)row * headColumns + GROUP_Y * DIM;
    float best = -3.0e38f, total = 0;
    for (int c = 0; c < count; c++) best = fmax(best, stats[2 * (place + c)]);
    for (int c = 0; c < count; c++) total += stats[2 * (place + c) + 1] * exp(stats[2 * (place + c)] - best);
    const float inverse = total > 0 ? 1.0f / total : 0.0f;
    for (int i = LANE; i < DIM; i += GROUP) {
        float sum = 0;
        for (int c = 0; c < count; c++) sum += partial[(place + c) * DIM + i] * exp(stats[2 * (place + c)] - best);
        heads[y + model_place(i)] = sum * inverse;
    }
}
