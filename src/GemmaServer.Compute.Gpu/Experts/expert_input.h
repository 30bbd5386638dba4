// Reading rows of activations that may be no whole number of groups.

// Elements c .. c + 3 of a row, zeros behind its end.
INLINE float4 four_of(GLOBAL const float* row, int c, int columns)
{
    float4 v;
    if (columns % 4 == 0 && c < columns) {
        v = *(GLOBAL const float4*)(row + c);
    } else {
        v.x = c < columns ? row[c] : 0.0f;
        v.y = c + 1 < columns ? row[c + 1] : 0.0f;
        v.z = c + 2 < columns ? row[c + 2] : 0.0f;
        v.w = c + 3 < columns ? row[c + 3] : 0.0f;
    }
    return v;
}
