// Which experts a row uses, which rows an expert has, and the sum of what they gave. A row's k-th expert is its place
// row * used + k: everything that belongs to a pair of row and expert stands there, grouped or not.
// GROUP: lanes of a group; MAX_EXPERTS, MAX_USED: what fits.

// Softmax over all experts, the best few in ascending order of experts, renormalised, times each expert's own scale:
// chosen[place], shares[place]. Of equal scores the lower expert is the better one. One group a row.
KERNEL(GROUP) top_experts(
    GLOBAL const int* RESTRICT step, GLOBAL const float* RESTRICT scores, GLOBAL const float* RESTRICT expertScale,
    GLOBAL int* RESTRICT chosen, GLOBAL float* RESTRICT shares, const int experts, const int used)
{
    SHARED float row[MAX_EXPERTS];
    SHARED float best[MAX_USED];
    SHARED int bestExpert[MAX_USED];
    const int n = GROUP_X < step[STEP_ROWS] ? experts : 0;
    for (int e = LANE; e < n; e += GROUP) row[e] = scores[(size_t)GROUP_X * experts + e];
    // Scores that are no numbers have no rank: a place that nobody takes still names an expert.
    if (LANE < used) {
        best[LANE] = 0;
        bestExpert[LANE] = LANE;
    }
    BARRIER;
    for (int e = LANE; e < n; e += GROUP) {
        const float own = row[e];
        int rank = 0;
        for (int f = 0; f < n; f++) rank += row[f] > own || (row[f] == own && f < e);
        if (rank < used) {
            best[rank] = own;
            bestExpert[rank] = e;
        }
    }
    BARRIER;
    if (LANE >= (n > 0 ? used : 0)) return;
    // softmax, top-k, renormalise equals softmax over the chosen ones.
    float sum = 0;
    int at = 0;
    for (int k = 0; k < used; k++) {
        sum += exp(best[k] - best[0]);
        at += bestExpert[k] < bestExpert[LANE] || (bestExpert[k] == bestExpert[LANE] && k < LANE);
    }
    at += GROUP_X * used;
    chosen[at] = bestExpert[LANE];
    shares[at] = exp(best[LANE] - best[0]) / sum * expertScale[bestExpert[LANE]];
}

// Sorts the places by expert, those of one expert by row: places[]. tiles[]: runs of at most tileRows places of one expert,
// (expert, first in places, count, 0), and behind the last one empty runs. One group an expert; each counts all of them, which
// saves a launch.
KERNEL(GROUP) group_by_expert(
    GLOBAL const int* RESTRICT step, GLOBAL const int* RESTRICT chosen, GLOBAL int* RESTRICT places, GLOBAL int4* RESTRICT tiles,
    const int experts, const int used, const int tileRows, const int tileCount)
{
    SHARED int counts[MAX_EXPERTS];
    SHARED int sums[GROUP];
    const int expert = GROUP_X, n = step[STEP_ROWS] * used;
    for (int e = LANE; e < experts; e += GROUP) counts[e] = 0;
    BARRIER;
    for (int i = LANE; i < n; i += GROUP) SHARED_ADD(&counts[chosen[i]], 1);

    // Each lane has a run of places of its own, so that the sum before it says where its first one goes.
    const int span = (n + GROUP - 1) / GROUP, first = LANE * span, end = first + span < n ? first + span : n;
    int own = 0;
    for (int i = first; i < end; i++) own += chosen[i] == expert;
    sums[LANE] = own;
    BARRIER;
    for (int distance = 1; distance < GROUP; distance *= 2) {
        const int before = LANE >= distance ? sums[LANE - distance] : 0;
        BARRIER;
        sums[LANE] += before;
        BARRIER;
    }

    int start = 0, tile = 0, allTiles = 0;
    for (int e = 0; e < experts; e++) {
        const int expertTiles = (counts[e] + tileRows - 1) / tileRows;
        start += e < expert ? counts[e] : 0;
        tile += e < expert ? expertTiles : 0;
        allTiles += expertTiles;
    }
    int at = start + sums[LANE] - own;
    for (int i = first; i < end; i++)
        if (chosen[i] == expert) places[at++] = i;

    for (int t = LANE; t * tileRows < counts[expert]; t += GROUP) {
        int4 run;
        run.x = expert;
        run.y = start + t * tileRows;
        run.z = counts[expert] - t * tileRows < tileRows ? counts[expert] - t * tileRows : tileRows;
        run.w = 0;
        tiles[tile + t] = run;
    }
    for (int t = allTiles + expert * GROUP + LANE; t < tileCount; t += experts * GROUP) {
        int4 none;
        none.x = 0;
        none.y = 0;
        none.z = 0;
        none.w = 0;
        tiles[t] = none;
    }
}

// y[row] = sum over k of shares[place] * outputs[place], in the order of k. Groups: (rows, columns / GROUP).
KERNEL(GROUP) sum_places(
    GLOBAL const int* RESTRICT step, GLOBAL const float* RESTRICT outputs, GLOBAL const float* RESTRICT shares, GLOBAL float* RESTRICT y,
    const int columns, const int used)
{
    const int column = GROUP_Y * GROUP + LANE;
    if (GROUP_X >= step[STEP_ROWS] || column >= columns) return;
    const size_t first = (size_t)GROUP_X * used;
    float sum = 0;
    for (int k = 0; k < used; k++) sum += shares[first + k] * outputs[(first + k) * columns + column];
    y[(size_t)GROUP_X * columns + column] = sum;
}
