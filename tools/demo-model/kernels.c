/* Two element-wise kernels that PyTorch on the CPU would need many passes over memory for.
   Compiled on first use by model.py (gcc); without a compiler model.py falls back to plain PyTorch. */
#include <math.h>
#include <stddef.h>

/* y = x * rsqrt(mean(x^2) + eps) * w; r keeps the factor for the backward pass. w may be NULL. */
void rms_fwd(const float *x, const float *w, float *y, float *r, long n, long d, float eps) {
    for (long i = 0; i < n; i++) {
        const float *a = x + i * d; float *b = y + i * d; float s = 0;
        for (long j = 0; j < d; j++) s += a[j] * a[j];
        float f = 1.0f / sqrtf(s / d + eps); r[i] = f;
        if (w) for (long j = 0; j < d; j++) b[j] = a[j] * f * w[j];
        else for (long j = 0; j < d; j++) b[j] = a[j] * f;
    }
}
/* dw must be zeroed by the caller */
void rms_bwd(const float *g, const float *x, const float *w, const float *r, float *dx, float *dw, long n, long d) {
    for (long i = 0; i < n; i++) {
        const float *a = x + i * d, *q = g + i * d; float *b = dx + i * d; float f = r[i], s = 0;
        if (w) {
            for (long j = 0; j < d; j++) { float t = q[j] * w[j]; s += t * a[j]; b[j] = t; dw[j] += q[j] * a[j] * f; }
        } else
            for (long j = 0; j < d; j++) { s += q[j] * a[j]; b[j] = q[j]; }
        s *= f * f / d;
        for (long j = 0; j < d; j++) b[j] = f * (b[j] - a[j] * s);
    }
}
static inline float tanh_fast(float u) {
    float t = expf(-2.0f * fabsf(u)); float v = (1.0f - t) / (1.0f + t); return copysignf(v, u);
}
/* y = gelu_tanh(a) * b */
void geglu_fwd(const float *a, const float *b, float *y, long n) {
    for (long i = 0; i < n; i++) {
        float x = a[i], u = 0.7978845608f * (x + 0.044715f * x * x * x);
        y[i] = 0.5f * x * (1.0f + tanh_fast(u)) * b[i];
    }
}
void geglu_bwd(const float *g, const float *a, const float *b, float *da, float *db, long n) {
    for (long i = 0; i < n; i++) {
        float x = a[i], u = 0.7978845608f * (x + 0.044715f * x * x * x), t = tanh_fast(u);
        float du = 0.7978845608f * (1.0f + 3 * 0.044715f * x * x);
        db[i] = g[i] * 0.5f * x * (1.0f + t);
        da[i] = g[i] * b[i] * (0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du);
    }
}
/* causal softmax over scores [m, t, t] in place; row i of each t x t block sees keys max(0, i-win+1)..i */
void softmax_fwd(float *s, long m, long t, long win) {
    for (long k = 0; k < m; k++)
        for (long i = 0; i < t; i++) {
            float *p = s + (k * t + i) * t; long lo = i - win + 1; if (lo < 0) lo = 0;
            float mx = p[lo]; for (long j = lo + 1; j <= i; j++) mx = p[j] > mx ? p[j] : mx;
            float z = 0;
            for (long j = lo; j <= i; j++) { float e = expf(p[j] - mx); p[j] = e; z += e; }
            z = 1.0f / z;
            for (long j = 0; j < lo; j++) p[j] = 0;
            for (long j = lo; j <= i; j++) p[j] *= z;
            for (long j = i + 1; j < t; j++) p[j] = 0;
        }
}
/* gradient in place of g */
void softmax_bwd(const float *s, float *g, long m, long t) {
    for (long k = 0; k < m; k++)
        for (long i = 0; i < t; i++) {
            const float *p = s + (k * t + i) * t; float *q = g + (k * t + i) * t; float z = 0;
            for (long j = 0; j <= i; j++) z += p[j] * q[j];
            for (long j = 0; j <= i; j++) q[j] = p[j] * (q[j] - z);
            for (long j = i + 1; j < t; j++) q[j] = 0;
        }
}
/* the same two on bfloat16 scores / probabilities (training only) */
typedef unsigned short u16;
static inline float up(u16 v) { union { unsigned u; float f; } c; c.u = (unsigned)v << 16; return c.f; }
static inline u16 down(float f) { union { unsigned u; float f; } c; c.f = f; return (u16)((c.u + 0x7fff + ((c.u >> 16) & 1)) >> 16); }
void softmax16_fwd(u16 *s, long m, long t, long win) {
    float e[4096];
    for (long k = 0; k < m; k++)
        for (long i = 0; i < t; i++) {
            u16 *p = s + (k * t + i) * t; long lo = i - win + 1; if (lo < 0) lo = 0;
            float mx = -1e30f; for (long j = lo; j <= i; j++) { float v = up(p[j]); e[j] = v; mx = v > mx ? v : mx; }
            float z = 0;
            for (long j = lo; j <= i; j++) { float v = expf(e[j] - mx); e[j] = v; z += v; }
            z = 1.0f / z;
            for (long j = 0; j < lo; j++) p[j] = 0;
            for (long j = lo; j <= i; j++) p[j] = down(e[j] * z);
            for (long j = i + 1; j < t; j++) p[j] = 0;
        }
}
void softmax16_bwd(const u16 *s, u16 *g, long m, long t) {
    for (long k = 0; k < m; k++)
        for (long i = 0; i < t; i++) {
            const u16 *p = s + (k * t + i) * t; u16 *q = g + (k * t + i) * t; float z = 0;
            for (long j = 0; j <= i; j++) z += up(p[j]) * up(q[j]);
            for (long j = 0; j <= i; j++) q[j] = down(up(p[j]) * (up(q[j]) - z));
            for (long j = i + 1; j < t; j++) q[j] = 0;
        }
}
