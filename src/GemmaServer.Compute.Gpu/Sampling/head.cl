// The rows that get logits, and what a step's end leaves in the slots.

// y[r] = RMS(x[row of output start + r]; w); hasNorm 0: a copy.
KERNEL(GROUP) gather_norm(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT x, GLOBAL const float* RESTRICT w, GLOBAL float* RESTRICT y,
    const int columns, const float epsilon, const int start, const int hasNorm)
{
    SHARED float scratch[GROUP];
    const int o = start + GROUP_X;
    const bool is = o < outputs[0];
    const int n = is ? columns : 0;
    const size_t from = is ? (size_t)OUTPUT(outputs, o)[OUT_ROW] * columns : 0, to = (size_t)GROUP_X * columns;
    float sum = 0;
    for (int i = LANE; i < (hasNorm != 0 ? n : 0); i += GROUP) sum += x[from + i] * x[from + i];
    const float inverse = 1.0f / sqrt(group_sum(sum, scratch) / (float)columns + epsilon);
    for (int i = LANE; i < n; i += GROUP) y[to + i] = hasNorm != 0 ? x[from + i] * inverse * w[i] : x[from + i];
}

// Slice by slice: samples count until a guess was wrong, those behind it are nobody's (-1); the slot learns what was sampled.
// hiddenFrom[k]: the row that the last token of the k-th slice with drafts wanted came from.
KERNEL(64) settle(
    GLOBAL const int* RESTRICT outputs, GLOBAL int* RESTRICT results, GLOBAL int* RESTRICT slots, GLOBAL ushort* RESTRICT counts,
    GLOBAL int* RESTRICT lastSampled, GLOBAL int* RESTRICT hiddenFrom, const int vocabulary, const int slotInts)
{
    const int first = GROUP_X * 64 + LANE;
    if (first >= outputs[0] || (OUTPUT(outputs, first)[OUT_FLAGS] & FLAG_FIRST) == 0) return;
    bool isLive = true;
    for (int o = first; o < outputs[0]; o++) {
        GLOBAL const int* about = OUTPUT(outputs, o);
        if ((about[OUT_FLAGS] & FLAG_SAMPLE) == 0 || (o > first && (about[OUT_FLAGS] & FLAG_FIRST) != 0)) break;
        if (!isLive) {
            results[(size_t)o * RESULT_INTS + RESULT_TOKEN] = -1;
            continue;
        }
        const int token = results[(size_t)o * RESULT_INTS + RESULT_TOKEN], slot = about[OUT_SLOT], place = about[OUT_PENALTIES];
        slots[(size_t)slot * slotInts + SLOT_GENERATED]++;
        lastSampled[slot] = token;
        if (place >= 0) {
            const int seen = counts[(size_t)place * vocabulary + token];
            counts[(size_t)place * vocabulary + token] = (ushort)(seen == 0 ? 2 : seen < 65535 ? seen + 1 : seen);
        }
        isLive = token == about[OUT_GUESS];
        if (!isLive && about[OUT_HIDDEN] >= 0) hiddenFrom[about[OUT_HIDDEN]] = about[OUT_ROW];
    }
}

// y[k] = RMS(x[hiddenFrom[k]]; w).
KERNEL(GROUP) hidden_rows(
    GLOBAL const int* RESTRICT hiddenFrom, GLOBAL const float* RESTRICT x, GLOBAL const float* RESTRICT w, GLOBAL float* RESTRICT y,
    const int columns, const float epsilon)
{
    SHARED float scratch[GROUP];
    const size_t from = (size_t)hiddenFrom[GROUP_X] * columns, to = (size_t)GROUP_X * columns;
    float sum = 0;
    for (int i = LANE; i < columns; i += GROUP) sum += x[from + i] * x[from + i];
    const float inverse = 1.0f / sqrt(group_sum(sum, scratch) / (float)columns + epsilon);
    for (int i = LANE; i < columns; i += GROUP) y[to + i] = x[from + i] * inverse * w[i];
}

// A guess becomes its row's token.
KERNEL(64) settle_guesses(GLOBAL const int* RESTRICT outputs, GLOBAL const int* RESTRICT results, GLOBAL int* RESTRICT tokens)
{
    const int o = GROUP_X * 64 + LANE;
    if (o >= outputs[0] || (OUTPUT(outputs, o)[OUT_FLAGS] & FLAG_SAMPLE) == 0) return;
    tokens[OUTPUT(outputs, o)[OUT_ROW]] = results[(size_t)o * RESULT_INTS + RESULT_TOKEN];
}

// counts[place][token] = count, for pairs of token and count.
KERNEL(64) write_counts(GLOBAL const int* RESTRICT pairs, GLOBAL ushort* RESTRICT counts, const int n, const int place, const int vocabulary)
{
    const int i = GROUP_X * 64 + LANE;
    if (i < n) counts[(size_t)place * vocabulary + pairs[2 * i]] = (ushort)pairs[2 * i + 1];
}

// Zeros, or what stood in a smaller buffer.
KERNEL(64) copy_counts(GLOBAL const ushort* RESTRICT from, GLOBAL ushort* RESTRICT to, const int n, const int place, const int hasSource)
{
    for (int i = GROUP_X * 64 + LANE; i < n; i += 64 * 64) to[(size_t)place * n + i] = hasSource != 0 ? from[(size_t)place * n + i] : (ushort)0;
}
