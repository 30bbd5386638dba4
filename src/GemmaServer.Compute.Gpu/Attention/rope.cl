// turns[row] = cosines of the row's pairs, then their sines: fp32(position) * fp32(frequency), as the reference does. One group a row.
KERNEL(GROUP) fill_turns(
    GLOBAL const int* RESTRICT step, GLOBAL const int* RESTRICT rows, GLOBAL const float* RESTRICT frequencies, GLOBAL float* RESTRICT turns, const int pairs)
{
    if (GROUP_X >= step[STEP_ROWS]) return;
    const float position = (float)rows[4 * GROUP_X + 1];
    GLOBAL float* cosines = turns + (size_t)GROUP_X * 2 * pairs;
    for (int i = LANE; i < pairs; i += GROUP) {
        float s, c;
        SINCOS(position * frequencies[i], s, c);
        cosines[i] = c;
        cosines[pairs + i] = s;
    }
}
