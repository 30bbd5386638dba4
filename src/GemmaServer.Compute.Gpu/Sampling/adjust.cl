// From the head's product to logits that may be compared: soft-cap, bias, penalties, what the step allows, bans; the greatest of
// each block of GROUP tokens. One group takes CHUNK tokens of a row.

// partials: [rows][chunks][2], of rows whose untouched logits are kept: the chunk's greatest and its sum of exp above that.
// maxima, rawMaxima: [rows][blocks], after and before bias, penalties and bans.
KERNEL(GROUP) adjust_logits(
    GLOBAL const int* RESTRICT outputs, GLOBAL const int* RESTRICT slots, GLOBAL const ushort* RESTRICT counts, GLOBAL const uint* RESTRICT masks,
    GLOBAL float* RESTRICT logits, GLOBAL float* RESTRICT adjusted, GLOBAL float* RESTRICT maxima, GLOBAL float* RESTRICT rawMaxima,
    GLOBAL float* RESTRICT partials, const int vocabulary, const int slotInts, const float softcap, const int start, const int keepAll)
{
    SHARED float chunk[CHUNK];
    SHARED float scratch[GROUP];
    const int o = start + GROUP_Y, from = GROUP_X * CHUNK;
    const bool is = o < outputs[0];
    const int n = !is ? 0 : vocabulary - from < CHUNK ? vocabulary - from : CHUNK;
    GLOBAL const int* about = OUTPUT(outputs, is ? o : 0);
    const int flags = about[OUT_FLAGS];
    const bool keep = is && (keepAll != 0 || (flags & FLAG_KEEP) != 0), sample = is && (flags & FLAG_SAMPLE) != 0;
    const size_t at = (size_t)GROUP_Y * vocabulary + from;
    const int blocks = (vocabulary + GROUP - 1) / GROUP, firstBlock = GROUP_Y * blocks + from / GROUP, myBlocks = (n + GROUP - 1) / GROUP;

    float best = NEGATIVE_INFINITY;
    for (int i = LANE; i < n; i += GROUP) {
        float x = logits[at + i];
        if (softcap != 0.0f) x = softcap * tanh(x / softcap);
        if (keep) logits[at + i] = x;
        chunk[i] = x;
        best = fmax(best, x);
    }

    // Untouched logits: what logprobs are made of.
    best = group_max(best, scratch);
    const float origin = best == NEGATIVE_INFINITY ? 0.0f : best;
    float sum = 0;
    for (int i = LANE; i < (keep ? n : 0); i += GROUP) sum += exp(chunk[i] - origin);
    sum = group_sum(sum, scratch);
    if (keep && LANE == 0) {
        const size_t place = ((size_t)GROUP_Y * ((vocabulary + CHUNK - 1) / CHUNK) + GROUP_X) * 2;
        partials[place] = best;
        partials[place + 1] = sum;
    }
    const int warp = LANE / 32, lane = LANE % 32;
    BARRIER;
    best = NEGATIVE_INFINITY;
    for (int i = warp * GROUP + lane; i < n && i < (warp + 1) * GROUP; i += 32) best = fmax(best, chunk[i]);
    scratch[LANE] = best;
    BARRIER;
    if (keep && LANE < myBlocks) {
        for (int i = 0; i < 32; i++) best = i == 0 ? scratch[LANE * 32] : fmax(best, scratch[LANE * 32 + i]);
        rawMaxima[firstBlock + LANE] = best;
    }

    GLOBAL const int* lists = slots + (size_t)about[OUT_SLOT] * slotInts + SLOT_LISTS;
    const int biases = sample ? about[OUT_BIASES] : 0;
    BARRIER;
    for (int i = LANE; i < biases; i += GROUP) {
        const int t = lists[2 * i] - from;
        if (t >= 0 && t < n) chunk[t] += as_float(lists[2 * i + 1]);
    }
    BARRIER;
    const int place = about[OUT_PENALTIES], mask = about[OUT_MASK], run = about[OUT_RUN], words = (vocabulary + 63) / 64 * 2;
    const float repetition = as_float(about[OUT_REPETITION]), frequency = as_float(about[OUT_FREQUENCY]), presence = as_float(about[OUT_PRESENCE]);
    for (int i = LANE; i < (sample ? n : 0); i += GROUP) {
        float x = chunk[i];
        if (place >= 0) {
            // 0: not seen; else one more than its occurrences in the output. In a row behind guesses these are part of it: if one
            // was wrong, the row is nobody's.
            int seen = counts[(size_t)place * vocabulary + from + i];
            for (int r = 1; r <= run; r++)
                if (OUTPUT(outputs, o - r)[OUT_GUESS] == from + i) seen = seen == 0 ? 2 : seen + 1;
            if (seen > 0) x = x > 0.0f ? x / repetition : x * repetition;
            if (seen > 1) x -= frequency * (float)(seen - 1) + presence;
        }
        if (mask >= 0) {
            const int token = from + i;
            if (((masks[(size_t)mask * words + token / 32] >> (token % 32)) & 1u) == 0u) x = NEGATIVE_INFINITY;
        }
        chunk[i] = x;
    }
    BARRIER;
    const int generated = slots[(size_t)about[OUT_SLOT] * slotInts + SLOT_GENERATED] + run;
    const bool mayNotEnd = generated < about[OUT_MIN_TOKENS];
    const bool bans = sample && (flags & (mayNotEnd ? FLAG_BANS_WITH_ENDS : FLAG_BANS)) != 0;
    const int barred = bans ? about[OUT_BANS] + (mayNotEnd ? about[OUT_ENDS] : 0) : 0;
    for (int i = LANE; i < barred; i += GROUP) {
        const int t = lists[2 * biases + i] - from;
        if (t >= 0 && t < n) chunk[t] = NEGATIVE_INFINITY;
    }
    BARRIER;
    best = NEGATIVE_INFINITY;
    for (int i = warp * GROUP + lane; i < n && i < (warp + 1) * GROUP; i += 32) best = fmax(best, chunk[i]);
    scratch[LANE] = best;
    for (int i = LANE; i < (sample ? n : 0); i += GROUP) {
        if (keep) adjusted[at + i] = chunk[i];
        else logits[at + i] = chunk[i];
    }
    BARRIER;
    if (sample && LANE < myBlocks) {
        for (int i = 0; i < 32; i++) best = i == 0 ? scratch[LANE * 32] : fmax(best, scratch[LANE * 32 + i]);
        maxima[firstBlock + LANE] = best;
    }
}

// Weights of a chunk, exp((x - best) / T), summed exactly: for rows whose nucleus is sought among all tokens.
KERNEL(GROUP) weigh_chunks(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT logits, GLOBAL const float* RESTRICT adjusted, GLOBAL const float* RESTRICT maxima,
    GLOBAL ulong* RESTRICT weights, const int vocabulary, const int start, const int keepAll)
{
    SHARED float scratch[GROUP];
    SHARED ulong sums[GROUP];
    const int o = start + GROUP_Y, from = GROUP_X * CHUNK;
    const bool is = o < outputs[0];
    GLOBAL const int* about = OUTPUT(outputs, is ? o : 0);
    const bool work = is && (about[OUT_FLAGS] & FLAG_WEIGHED) != 0;
    const int n = !work ? 0 : vocabulary - from < CHUNK ? vocabulary - from : CHUNK, blocks = (vocabulary + GROUP - 1) / GROUP;
    GLOBAL const float* values = (keepAll != 0 || (about[OUT_FLAGS] & FLAG_KEEP) != 0 ? adjusted : logits) + (size_t)GROUP_Y * vocabulary + from;
    float best = NEGATIVE_INFINITY;
    for (int b = LANE; b < (work ? blocks : 0); b += GROUP) best = fmax(best, maxima[GROUP_Y * blocks + b]);
    best = group_max(best, scratch);
    const float inverse = as_float(about[OUT_INVERSE_T]);
    ulong sum = 0;
    for (int i = LANE; i < n; i += GROUP)
        if (values[i] > NEGATIVE_INFINITY) sum += whole_weight(exp((values[i] - best) * inverse));
    sum = group_total(sum, sums);
    if (work && LANE == 0) weights[(size_t)GROUP_Y * ((vocabulary + CHUNK - 1) / CHUNK) + GROUP_X] = sum;
}
