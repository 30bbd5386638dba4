// The n-th best of a row without sorting it: eight bits of the key at a time, from the top, counting (or weighing) who has which.
// BLOCKS: blocks of a row. Every function has barriers: all lanes call it, with the same arguments.

// Elements (value, index) in falling order of value, equals in rising order of index; a cut keeps those up to one of them.
typedef struct {
    uint key, index;
} Cut;

INLINE bool is_kept(Cut cut, uint key, uint index)
{
    return key > cut.key || (key == cut.key && index <= cut.index);
}

typedef struct {
    uint digits[3 * 256];     // by value of eight bits: low, middle and high digits of the sum
    ulong sums[256];
    ulong above, equal;       // sum before the value found, and of it
    uint found;
    int count;
} Selection;

// The blocks that may hold someone with the key or better.
INLINE int list_blocks(GLOBAL const float* maxima, int blocks, uint key, SHARED_POINTER ushort* list, SHARED_POINTER Selection* s)
{
    BARRIER;
    if (LANE == 0) s->count = 0;
    BARRIER;
    for (int b = LANE; b < blocks; b += GROUP)
        if (ordered(maxima[b]) >= key) list[SHARED_ADD(&s->count, 1)] = (ushort)b;
    BARRIER;
    return s->count;
}

// Finds the value of eight bits at which the sum reaches what is wanted, from the top or from the bottom; false where it never does.
INLINE bool find_digit(SHARED_POINTER Selection* s, ulong wanted, bool fromTop)
{
    if (LANE == 0) s->found = NOBODY;
    s->sums[LANE] = ((ulong)s->digits[512 + LANE] << 26) + ((ulong)s->digits[256 + LANE] << 13) + s->digits[LANE];
    BARRIER;
    ulong before = 0;
    for (int b = fromTop ? LANE + 1 : 0; b < (fromTop ? 256 : LANE); b++) before += s->sums[b];
    const ulong own = s->sums[LANE];
    if (before < wanted && before + own >= wanted) {
        s->found = (uint)LANE;
        s->above = before;
        s->equal = own;
    }
    BARRIER;
    return s->found != NOBODY;
}

INLINE void clear_digits(SHARED_POINTER Selection* s)
{
    BARRIER;
    s->digits[LANE] = 0;
    s->digits[256 + LANE] = 0;
    s->digits[512 + LANE] = 0;
    BARRIER;
}

// The wanted-th of the elements within a cut, or, with weights exp((x - best) * inverseT), the one at which their sum reaches
// wanted. isSought false, or not so many: the cut as it is. The loops have turns even where nothing is sought: see prelude_opencl.h.
INLINE Cut nth_best(
    GLOBAL const float* values, int count, SHARED_POINTER const ushort* list, int listed, Cut within, bool byWeight, float best, float inverseT,
    ulong wanted, bool isSought, SHARED_POINTER Selection* s)
{
    uint prefix = 0;
    bool isFound = isSought;
    int turn = 0;
    do {
        const int shift = 24 - 8 * turn;
        clear_digits(s);
        for (int b = 0; b < (isFound ? listed : 0); b++) {
            const int i = list[b] * GROUP + LANE;
            if (i >= count) continue;
            const float x = values[i];
            const uint key = ordered(x);
            if (!is_kept(within, key, (uint)i) || (turn > 0 && (key >> (shift + 8)) != prefix)) continue;
            const uint digit = (key >> shift) & 255u;
            if (byWeight) add_weight(exp((x - best) * inverseT), &s->digits[digit], &s->digits[256 + digit], &s->digits[512 + digit]);
            else SHARED_ADD(&s->digits[digit], 1u);
        }
        BARRIER;
        isFound = find_digit(s, wanted, true) && isFound;
        if (isFound) {
            prefix = (prefix << 8) | s->found;
            wanted -= s->above;
        }
        turn++;
    } while (turn < 4);
    // Equals weigh the same, so the rest of what is wanted is a number of them.
    ulong equals = isFound ? s->equal : 0;
    BARRIER;
    if (byWeight && isFound) {
        const float x = as_float((prefix >> 31) != 0u ? prefix ^ 0x80000000u : ~prefix);
        const ulong weight = whole_weight(exp((x - best) * inverseT));
        equals = (equals + weight / 2) / weight;
        wanted = (wanted + weight - 1) / weight;
    }
    uint index = 0;
    const bool isSplit = isFound && wanted < equals;
    turn = 0;
    do {
        const int shift = 16 - 8 * turn;
        clear_digits(s);
        for (int b = 0; b < (isSplit ? listed : 0); b++) {
            const int i = list[b] * GROUP + LANE;
            if (i >= count || ordered(values[i]) != prefix || (turn > 0 && ((uint)i >> (shift + 8)) != index)) continue;
            SHARED_ADD(&s->digits[((uint)i >> shift) & 255u], 1u);
        }
        BARRIER;
        find_digit(s, wanted, false);
        if (isSplit) {
            index = (index << 8) | s->found;
            wanted -= s->above;
        }
        turn++;
    } while (turn < 3);
    Cut cut;
    cut.key = isFound ? prefix : within.key;
    cut.index = !isFound || (prefix == within.key && !isSplit) ? within.index : isSplit ? index : NOBODY;
    return cut;
}

// A sum over the lanes, exact.
INLINE ulong group_total(ulong value, SHARED_POINTER ulong* sums)
{
    BARRIER;
    sums[LANE] = value;
    int half_of = GROUP / 2;
    do {
        BARRIER;
        if (LANE < half_of) sums[LANE] += sums[LANE + half_of];
        half_of /= 2;
    } while (half_of > 0);
    BARRIER;
    return sums[0];
}

// A key that at least n elements of a row reach, because n blocks' greatest do; that of all where there are not so many blocks.
INLINE uint nth_block(GLOBAL const float* maxima, int blocks, int n, SHARED_POINTER ushort* list, SHARED_POINTER Selection* s)
{
    const int listed = (blocks + GROUP - 1) / GROUP;
    BARRIER;
    for (int b = LANE; b < listed; b += GROUP) list[b] = (ushort)b;
    Cut all;
    all.key = LEAST_KEY;
    all.index = NOBODY;
    return nth_best(maxima, blocks, list, listed, all, false, 0.0f, 0.0f, (ulong)n, n > 0 && n <= blocks, s).key;
}
