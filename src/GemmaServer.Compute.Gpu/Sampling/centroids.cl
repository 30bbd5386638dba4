// A drafter's clustered head: only the tokens of a row's best clusters keep their logits. A few thousand clusters are ranked by
// counting who is better, which needs neither order nor barriers.

// kept: [rows][clusters], 1 for the best; equals by lower index.
KERNEL(GROUP) rank_clusters(
    GLOBAL const int* RESTRICT outputs, GLOBAL const float* RESTRICT scores, GLOBAL int* RESTRICT kept, const int clusters, const int used, const int start)
{
    const int cluster = GROUP_X * GROUP + LANE;
    if (start + GROUP_Y >= outputs[0] || cluster >= clusters) return;
    GLOBAL const float* row = scores + (size_t)GROUP_Y * clusters;
    const float own = row[cluster];
    int better = 0;
    for (int c = 0; c < clusters; c++) better += row[c] > own || (row[c] == own && c < cluster) ? 1 : 0;
    kept[(size_t)GROUP_Y * clusters + cluster] = better < used ? 1 : 0;
}

// clusterOf: by token.
KERNEL(GROUP) bar_tokens(
    GLOBAL const int* RESTRICT outputs, GLOBAL const int* RESTRICT kept, GLOBAL const int* RESTRICT clusterOf, GLOBAL float* RESTRICT logits,
    const int vocabulary, const int clusters, const int start)
{
    if (start + GROUP_Y >= outputs[0]) return;
    for (int t = GROUP_X * CHUNK + LANE; t < vocabulary && t < (GROUP_X + 1) * CHUNK; t += GROUP)
        if (kept[(size_t)GROUP_Y * clusters + clusterOf[t]] == 0) logits[(size_t)GROUP_Y * vocabulary + t] = NEGATIVE_INFINITY;
}
