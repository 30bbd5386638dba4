// tokens[row] = the row's token, or what its slot sampled last.
KERNEL(64) resolve_tokens(
    GLOBAL const int* RESTRICT step, GLOBAL const int* RESTRICT rows, GLOBAL const int* RESTRICT lastSampled, GLOBAL int* RESTRICT tokens)
{
    const int row = GROUP_X * 64 + LANE;
    if (row >= step[STEP_ROWS]) return;
    const int token = rows[4 * row];
    tokens[row] = token < 0 ? lastSampled[rows[4 * row + 3]] : token;
}
