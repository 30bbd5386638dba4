// Sums that wait for nothing but themselves, eight at a time: what the plain arithmetic gives. GROUP: lanes of a group.
KERNEL(GROUP) multiply_add(GLOBAL float* RESTRICT y, const int turns, const float factor)
{
    float a0 = LANE, a1 = a0 + 1, a2 = a0 + 2, a3 = a0 + 3, a4 = a0 + 4, a5 = a0 + 5, a6 = a0 + 6, a7 = a0 + 7;
    for (int t = 0; t < turns; t++) {
        a0 = a0 * factor + 1.0f; a1 = a1 * factor + 1.0f; a2 = a2 * factor + 1.0f; a3 = a3 * factor + 1.0f;
        a4 = a4 * factor + 1.0f; a5 = a5 * factor + 1.0f; a6 = a6 * factor + 1.0f; a7 = a7 * factor + 1.0f;
    }
    y[GROUP_X * GROUP + LANE] = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7;
}
