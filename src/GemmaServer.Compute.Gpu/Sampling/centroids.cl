// A drafter's clustered head: only the tokens of a row's best clusters keep their logits. BLOCKS: blocks of clusters.

// Rows of scores against every centroid; clusterOf: by token.
KERNEL(GROUP) bar_clusters(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT scores, GLOBAL uint* RESTRICT cuts,
    const int clusters, const int used, const int start)
{
    SHARED Selection selection;
    SHARED ushort list[BLOCKS];
    const bool is = start + GROUP_X < outputs[0];
    const int listed = is ? BLOCKS : 0;
    for (int b = LANE; b < BLOCKS; b += GROUP) list[b] = (ushort)b;
    BARRIER;
    Cut cut;
    cut.key = LEAST_KEY;
    cut.index = NOBODY;
    cut = nth_best(scores + (size_t)GROUP_X * clusters, clusters, list, listed, cut, false, 0.0f, 0.0f, (ulong)used, used < clusters ? 4 : 0, &selection);
    if (is && LANE == 0) {
        cuts[2 * GROUP_X] = cut.key;
        cuts[2 * GROUP_X + 1] = cut.index;
    }
}

KERNEL(GROUP) bar_tokens(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT scores, GLOBAL const uint* RESTRICT cuts, GLOBAL const int* RESTRICT clusterOf,
    GLOBAL float* RESTRICT logits, const int vocabulary, const int clusters, const int start)
{
    if (start + GROUP_Y >= outputs[0]) return;
    Cut cut;
    cut.key = cuts[2 * GROUP_Y];
    cut.index = cuts[2 * GROUP_Y + 1];
    for (int t = GROUP_X * CHUNK + LANE; t < vocabulary && t < (GROUP_X + 1) * CHUNK; t += GROUP) {
        const int cluster = clusterOf[t];
        if (!is_kept(cut, ordered(scores[(size_t)GROUP_Y * clusters + cluster]), (uint)cluster)) logits[(size_t)GROUP_Y * vocabulary + t] = NEGATIVE_INFINITY;
    }
}
