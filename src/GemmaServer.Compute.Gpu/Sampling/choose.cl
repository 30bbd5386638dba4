// Which tokens take part in the draw, and the draw.

// Top-k. bounds: [rows][4]: the greatest logit, key and index of the last token that takes part, nothing.
KERNEL(GROUP) cut_top_k(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT logits, GLOBAL const float* RESTRICT adjusted, GLOBAL const float* RESTRICT maxima,
    GLOBAL uint* RESTRICT bounds, const int vocabulary, const int start, const int keepAll)
{
    SHARED Selection selection;
    SHARED ushort list[BLOCKS];
    SHARED float scratch[GROUP];
    const int o = start + GROUP_X, blocks = BLOCKS;
    const bool is = o < outputs[0];
    GLOBAL const int* about = OUTPUT(outputs, is ? o : 0);
    const int flags = about[OUT_FLAGS];
    const bool sample = is && (flags & FLAG_SAMPLE) != 0, isGreedy = (flags & FLAG_GREEDY) != 0;
    GLOBAL const float* values = (keepAll != 0 || (flags & FLAG_KEEP) != 0 ? adjusted : logits) + (size_t)GROUP_X * vocabulary;
    GLOBAL const float* greatest = maxima + (size_t)GROUP_X * blocks;

    float best = NEGATIVE_INFINITY;
    for (int b = LANE; b < (sample ? blocks : 0); b += GROUP) best = fmax(best, greatest[b]);
    best = group_max(best, scratch);
    const int k = sample && !isGreedy && best > NEGATIVE_INFINITY ? about[OUT_TOP_K] : 0;
    Cut cut;
    cut.key = nth_block(greatest, blocks, k, list, &selection);
    cut.index = NOBODY;
    const int listed = list_blocks(greatest, k > 0 ? blocks : 0, cut.key, list, &selection);
    cut = nth_best(values, vocabulary, list, listed, cut, false, 0.0f, 0.0f, (ulong)k, k > 0, &selection);
    if (sample && LANE == 0) {
        GLOBAL uint* bound = bounds + 4 * GROUP_X;
        bound[0] = as_uint(best);
        bound[1] = isGreedy ? ordered(best) : cut.key;
        bound[2] = cut.index;
    }
}

// Top-p, of what top-k left or of all.
KERNEL(GROUP) cut_nucleus(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT logits, GLOBAL const float* RESTRICT adjusted, GLOBAL const float* RESTRICT maxima,
    GLOBAL const ulong* RESTRICT weights, GLOBAL uint* RESTRICT bounds, const int vocabulary, const int start, const int keepAll)
{
    SHARED Selection selection;
    SHARED ushort list[BLOCKS];
    const int o = start + GROUP_X, blocks = BLOCKS;
    const bool is = o < outputs[0];
    GLOBAL const int* about = OUTPUT(outputs, is ? o : 0);
    const int flags = about[OUT_FLAGS];
    GLOBAL uint* bound = bounds + 4 * GROUP_X;
    const float best = as_float(bound[0]), inverse = as_float(about[OUT_INVERSE_T]);
    const bool isSought = is && (flags & FLAG_NUCLEUS) != 0 && best > NEGATIVE_INFINITY, isWeighed = (flags & FLAG_WEIGHED) != 0;
    GLOBAL const float* values = (keepAll != 0 || (flags & FLAG_KEEP) != 0 ? adjusted : logits) + (size_t)GROUP_X * vocabulary;
    Cut cut;
    cut.key = bound[1];
    cut.index = bound[2];
    const uint fraction = (uint)about[OUT_TOP_P];
    // What is far enough below the best weighs less than 1 - p of it even a vocabulary's times, so the nucleus ends above.
    const float depth = log((float)vocabulary) - log(((float)(~fraction) + 1.0f) / 4294967296.0f) + 1.0f;
    const uint floor = ordered(best - depth / inverse);
    if (isSought && isWeighed && floor > cut.key) cut.key = floor;
    const int listed = list_blocks(maxima + (size_t)GROUP_X * blocks, isSought ? blocks : 0, cut.key, list, &selection);
    const int chunks = isSought && isWeighed ? (vocabulary + CHUNK - 1) / CHUNK : 0;
    ulong sum = 0;
    for (int c = LANE; c < chunks; c += GROUP) sum += weights[(size_t)GROUP_X * chunks + c];
    for (int b = 0; b < (isWeighed ? 0 : listed); b++) {
        const int i = list[b] * GROUP + LANE;
        if (i < vocabulary && is_kept(cut, ordered(values[i]), (uint)i)) sum += whole_weight(exp((values[i] - best) * inverse));
    }
    const ulong wanted = part_of(group_total(sum, selection.sums), fraction);
    cut = nth_best(values, vocabulary, list, listed, cut, true, best, inverse, wanted, isSought, &selection);
    if (isSought && LANE == 0) {
        bound[1] = cut.key;
        bound[2] = cut.index;
    }
}

// The best of a chunk: arg max of (x - best) / T + noise over who takes part. drawn: [rows][chunks][2]: score, token.
KERNEL(GROUP) draw_chunks(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT logits, GLOBAL const float* RESTRICT adjusted, GLOBAL const float* RESTRICT maxima,
    GLOBAL const uint* RESTRICT bounds, GLOBAL float* RESTRICT drawn, const int vocabulary, const int start, const int keepAll)
{
    SHARED float scratch[GROUP];
    const int o = start + GROUP_Y;
    const bool is = o < outputs[0];
    GLOBAL const int* about = OUTPUT(outputs, is ? o : 0);
    const int flags = about[OUT_FLAGS];
    const bool sample = is && (flags & FLAG_SAMPLE) != 0, isGreedy = (flags & FLAG_GREEDY) != 0;
    GLOBAL const float* values = (keepAll != 0 || (flags & FLAG_KEEP) != 0 ? adjusted : logits) + (size_t)GROUP_Y * vocabulary;
    const float best = as_float(bounds[4 * GROUP_Y]), inverse = as_float(about[OUT_INVERSE_T]), least = as_float(about[OUT_LOG_MIN_P]);
    Cut cut;
    cut.key = bounds[4 * GROUP_Y + 1];
    cut.index = bounds[4 * GROUP_Y + 2];
    const uint seedLow = (uint)about[OUT_SEED_LOW], seedHigh = (uint)about[OUT_SEED_HIGH], position = (uint)about[OUT_POSITION];

    // Each lane has four neighbours at a time: one run of the generator. The best token's score is at least LEAST_NOISE, and a
    // block so far below that no noise makes up for it is left alone.
    float score = NEGATIVE_INFINITY;
    int token = 0;
    for (int t = GROUP_X * CHUNK + 4 * LANE; t < (sample ? (GROUP_X + 1) * CHUNK : 0); t += 4 * GROUP) {
        if (t >= vocabulary) continue;
        const float top = maxima[GROUP_Y * BLOCKS + t / GROUP], reach = (top - best) * inverse;
        if (ordered(top) < cut.key || reach < least || (!isGreedy && reach < LEAST_NOISE - GREATEST_NOISE)) continue;
        uint bits[4];
        if (!isGreedy) philox(seedLow, seedHigh, (uint)t / 4u, position, bits);
        for (int i = 0; i < 4 && t + i < vocabulary; i++) {
            const float x = values[t + i], relative = (x - best) * inverse;
            if (!is_kept(cut, ordered(x), (uint)(t + i)) || relative < least) continue;
            const float own = isGreedy ? x : relative + gumbel(bits[i]);
            if (own > score) {
                score = own;
                token = t + i;
            }
        }
    }
    const float highest = group_max(score, scratch);
    // Token ids are whole floats: below 2^24.
    const float lowest = -group_max(score == highest ? -(float)token : -16777216.0f, scratch);
    if (sample && LANE == 0) {
        const size_t place = ((size_t)GROUP_Y * ((vocabulary + CHUNK - 1) / CHUNK) + GROUP_X) * 2;
        drawn[place] = highest;
        drawn[place + 1] = lowest;
    }
}

// The best chunk's token, 0 where nothing could be chosen; log sum exp of the untouched logits.
KERNEL(64) pick_tokens(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT logits, GLOBAL const float* RESTRICT partials, GLOBAL const float* RESTRICT drawn,
    GLOBAL int* RESTRICT results, const int vocabulary, const int start, const int keepAll)
{
    SHARED float scratch[64];
    const int o = start + GROUP_X, chunks = (vocabulary + CHUNK - 1) / CHUNK;
    const bool is = o < outputs[0];
    GLOBAL const int* about = OUTPUT(outputs, is ? o : 0);
    const bool keep = is && (keepAll != 0 || (about[OUT_FLAGS] & FLAG_KEEP) != 0), sample = is && (about[OUT_FLAGS] & FLAG_SAMPLE) != 0;
    const size_t at = (size_t)GROUP_X * chunks;

    float score = NEGATIVE_INFINITY, token = 0;
    for (int c = LANE; c < (sample ? chunks : 0); c += 64)
        if (drawn[2 * (at + c)] > score) {
            score = drawn[2 * (at + c)];
            token = drawn[2 * (at + c) + 1];
        }
    const float highest = group_max(score, scratch);
    const float lowest = -group_max(score == highest ? -token : -16777216.0f, scratch);
    const int chosen = !sample ? -1 : highest > NEGATIVE_INFINITY ? (int)lowest : 0;

    float greatest = NEGATIVE_INFINITY;
    for (int c = LANE; c < (keep ? chunks : 0); c += 64) greatest = fmax(greatest, partials[2 * (at + c)]);
    greatest = group_max(greatest, scratch);
    float sum = 0;
    for (int c = LANE; c < (keep ? chunks : 0); c += 64)
        if (partials[2 * (at + c)] > NEGATIVE_INFINITY) sum += partials[2 * (at + c) + 1] * exp(partials[2 * (at + c)] - greatest);
    sum = group_sum(sum, scratch);
    if (is && LANE == 0) {
        GLOBAL int* result = results + (size_t)o * RESULT_INTS;
        const int next = about[OUT_PROMPT_NEXT];
        GLOBAL const float* row = logits + (size_t)GROUP_X * vocabulary;
        result[RESULT_TOKEN] = chosen;
        result[RESULT_TOP] = 0;
        if (keep) {
            result[RESULT_LOGIT] = sample ? as_int(row[chosen]) : 0;
            result[RESULT_GREATEST] = as_int(greatest);
            result[RESULT_LOG_SUM] = as_int(log(sum));
            result[RESULT_PROMPT_LOGIT] = next >= 0 ? as_int(row[next]) : 0;
        }
    }
}

// The best tokens of untouched logits, in no order. tops: pairs of token and logit; a row's begin at OUT_TOP_AT.
KERNEL(GROUP) best_tokens(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT logits, GLOBAL const float* RESTRICT rawMaxima,
    GLOBAL int* RESTRICT results, GLOBAL int* RESTRICT tops, const int vocabulary, const int start)
{
    SHARED Selection selection;
    SHARED ushort list[BLOCKS];
    const int o = start + GROUP_X, blocks = BLOCKS;
    const bool is = o < outputs[0];
    GLOBAL const int* about = OUTPUT(outputs, is ? o : 0);
    const int n = is ? about[OUT_TOP] : 0;
    GLOBAL const float* values = logits + (size_t)GROUP_X * vocabulary;
    GLOBAL const float* greatest = rawMaxima + (size_t)GROUP_X * blocks;
    Cut cut;
    cut.key = nth_block(greatest, blocks, n, list, &selection);
    cut.index = NOBODY;
    const int listed = list_blocks(greatest, n > 0 ? blocks : 0, cut.key, list, &selection);
    cut = nth_best(values, vocabulary, list, listed, cut, false, 0.0f, 0.0f, (ulong)n, n > 0 && n < vocabulary, &selection);
    BARRIER;
    if (LANE == 0) selection.count = 0;
    BARRIER;
    for (int b = 0; b < listed; b++) {
        const int i = list[b] * GROUP + LANE;
        if (i >= vocabulary || !is_kept(cut, ordered(values[i]), (uint)i)) continue;
        const int place = about[OUT_TOP_AT] + 2 * SHARED_ADD(&selection.count, 1);
        tops[place] = i;
        tops[place + 1] = as_int(values[i]);
    }
    BARRIER;
    if (n > 0 && LANE == 0) results[(size_t)o * RESULT_INTS + RESULT_TOP] = selection.count;
}
