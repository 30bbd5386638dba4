// y = x, sixteen bytes a lane and turn: what the memory gives when nothing is computed. GROUP: lanes of a group.
KERNEL(GROUP) copy_blocks(GLOBAL const uint4* RESTRICT x, GLOBAL uint4* RESTRICT y, const int blocks, const int lanes)
{
    for (int i = GROUP_X * GROUP + LANE; i < blocks; i += lanes) y[i] = x[i];
}
