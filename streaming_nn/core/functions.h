/* Elementary functions of float64, by + - * / and the bits of a number alone: docs/arithmetic.md, "Functions".

   The C library's own differ from machine to machine; IEEE 754's four operations do not. */
#ifndef CORE_FUNCTIONS_H
#define CORE_FUNCTIONS_H

#include <stdint.h>

static const double LOG2E = 0x1.71547652b82fep0;
static const double LN2_HIGH = 0x1.62e42feep-1; /* 33 bits: times an exponent it is exact */
static const double LN2_LOW = 0x1.a39ef35793c76p-33;
static const double SHIFT = 0x1.8p52; /* added and taken off, it rounds to the nearest integer, ties to even */
static const double PI = 0x1.921fb54442d18p1;
static const double TWO_BY_ROOT_PI = 0x1.20dd750429b6dp0; /* 2 / sqrt(pi) */

static inline uint64_t bits_of(double x) {
    uint64_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double from_bits(uint64_t bits) {
    double x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

static inline double absolute(double x) { return from_bits(bits_of(x) & 0x7fffffffffffffffull); }

/* The one square root there is, which IEEE 754 rounds correctly. */
static inline double root(double x) { return __builtin_sqrt(x); }

/* (exp(r) - 1 - r) / r^2, for |r| <= 0.35: Taylor's series up to r^13 / 13! */
static inline double exp_series(double r) {
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    return p * r + 0.5;
}

/* exp(x); beyond -708 and 709 the value there, so that it is normal and finite. */
static inline double exponential(double x) {
    x = x < -708.0 ? -708.0 : x;
    x = x > 709.0 ? 709.0 : x;
    double shifted = x * LOG2E + SHIFT;
    double k = shifted - SHIFT;
    double r = (x - k * LN2_HIGH) - k * LN2_LOW;
    double p = 1.0 + (r + r * r * exp_series(r));
    return p * from_bits((bits_of(shifted) + 1023) << 52);
}

/* exp(x) - 1. */
static inline double exponential_minus_1(double x) {
    double small = x + x * x * exp_series(x);
    double large = exponential(x) - 1.0;
    return absolute(x) < 0.35 ? small : large;
}

/* log((1 + f) / (1 - f)) / f, for |f| <= 0.1716: its series up to f^22 / 23. */
static inline double log_series(double f) {
    double s = f * f;
    double p = 2.0 / 23.0;
    p = p * s + 2.0 / 21.0;
    p = p * s + 2.0 / 19.0;
    p = p * s + 2.0 / 17.0;
    p = p * s + 2.0 / 15.0;
    p = p * s + 2.0 / 13.0;
    p = p * s + 2.0 / 11.0;
    p = p * s + 2.0 / 9.0;
    p = p * s + 2.0 / 7.0;
    p = p * s + 2.0 / 5.0;
    p = p * s + 2.0 / 3.0;
    return p * s + 2.0;
}

/* log(x) of a normal, positive x; NaN of NaN. */
static inline double logarithm(double x) {
    /* x = m * 2^k with m in [sqrt(1/2), sqrt(2)), up to the last bits of the bound */
    uint64_t bits = bits_of(x) - 0x3fe6a09e00000000ull;
    double k = from_bits(((bits >> 52) ^ 0x800) + 0x4338000000000000ull) - (SHIFT + 2048.0);
    double m = from_bits((bits & 0x000fffffffffffffull) + 0x3fe6a09e00000000ull);
    double f = (m - 1.0) / (m + 1.0);
    double result = k * LN2_HIGH + (f * log_series(f) + k * LN2_LOW);
    return x == x ? result : x;
}

/* log(1 + x), for x > -1. */
static inline double logarithm_1_plus(double x) {
    double f = x / (2.0 + x);
    double small = f * log_series(f);
    double large = logarithm(1.0 + x);
    return absolute(f) < 0.17 ? small : large;
}

static inline double hyperbolic_tangent(double x) {
    double size = absolute(x);
    double e = exponential_minus_1(2.0 * (size > 20.0 ? 20.0 : size));
    double t = e / (e + 2.0);
    return x < 0.0 ? -t : t;
}

static inline double sigmoid(double x) {
    double e = exponential(-absolute(x));
    double smaller = e / (1.0 + e);
    double larger = 1.0 / (1.0 + e);
    return x < 0.0 ? smaller : larger;
}

/* log(1 + exp(x)). */
static inline double softplus(double x) {
    double more = logarithm_1_plus(exponential(-absolute(x)));
    return x > 0.0 ? x + more : more;
}

/* erf(x) * sqrt(pi) / (2 x), for |x| <= 1, of s = x^2: its series up to s^17 / (17! 35) */
static inline double erf_series(double s) {
    double p = -1.0 / 12449059983360000.0;
    p = p * s + 1.0 / 690452066304000.0;
    p = p * s - 1.0 / 40537905408000.0;
    p = p * s + 1.0 / 2528170444800.0;
    p = p * s - 1.0 / 168129561600.0;
    p = p * s + 1.0 / 11975040000.0;
    p = p * s - 1.0 / 918086400.0;
    p = p * s + 1.0 / 76204800.0;
    p = p * s - 1.0 / 6894720.0;
    p = p * s + 1.0 / 685440.0;
    p = p * s - 1.0 / 75600.0;
    p = p * s + 1.0 / 9360.0;
    p = p * s - 1.0 / 1320.0;
    p = p * s + 1.0 / 216.0;
    p = p * s - 1.0 / 42.0;
    p = p * s + 1.0 / 10.0;
    p = p * s - 1.0 / 3.0;
    p = p * s + 1.0;
    return p;
}

/* (1 - erf(x)) * exp(x^2) / t, for x in [1, 6], of t = 2 / (2 + x): Chebyshev's approximation, to 1.3e-17 */
static inline double erfc_series(double t) {
    double p = -0x1.581a78efdeeb8p-4;
    p = p * t + 0x1.3f2a92f69c284p-1;
    p = p * t - 0x1.0b84905213d0dp1;
    p = p * t + 0x1.08c34c9d1f661p2;
    p = p * t - 0x1.53167eed5d5b3p2;
    p = p * t + 0x1.23977dd696befp2;
    p = p * t - 0x1.5e684413d4e9ep1;
    p = p * t + 0x1.4c61179308a7bp0;
    p = p * t - 0x1.0aa7ba1ea6e9fp-1;
    p = p * t + 0x1.2a252271220d9p-4;
    p = p * t - 0x1.05fffb54d696dp-5;
    p = p * t + 0x1.692fa8fb692bdp-4;
    p = p * t + 0x1.68036d63754c2p-3;
    p = p * t + 0x1.f999c3db69cd8p-3;
    p = p * t + 0x1.20dce6494ebf4p-2;
    p = p * t + 0x1.20dd785a1d659p-2;
    return p;
}

static inline double error_function(double x) {
    double size = absolute(x);
    size = size > 6.0 ? 6.0 : size;
    double t = 2.0 / (2.0 + size), small = size * (TWO_BY_ROOT_PI * erf_series(size * size));
    double large = 1.0 - exponential(-(size * size)) * (t * erfc_series(t));
    double y = size < 1.0 ? small : large;
    return x < 0.0 ? -y : y;
}

/* x^y of a normal, positive x; 0 at x = 0. */
static inline double power(double x, double y) {
    double p = exponential(y * logarithm(x));
    return x > 0.0 ? p : 0.0;
}

/* x to the power of an integer, by squaring from the lowest bit on. */
static inline double integer_power(double x, uint64_t n) {
    double result = 1.0;
    for (; n; n >>= 1) {
        if (n & 1) result *= x;
        x *= x;
    }
    return result;
}

/* cos(pi * t) for t in [0, 2]: Taylor's series of the nearest quarter, up to x^16 / 16! */
static inline double cosine_of_pi(double t) {
    t = t > 1.0 ? 2.0 - t : t;
    double sign = t > 0.5 ? -1.0 : 1.0;
    t = t > 0.5 ? 1.0 - t : t;
    double x = PI * (t > 0.25 ? 0.5 - t : t), s = x * x;
    double c = 1.0 / 20922789888000.0;
    c = c * s - 1.0 / 87178291200.0;
    c = c * s + 1.0 / 479001600.0;
    c = c * s - 1.0 / 3628800.0;
    c = c * s + 1.0 / 40320.0;
    c = c * s - 1.0 / 720.0;
    c = c * s + 1.0 / 24.0;
    c = c * s - 1.0 / 2.0;
    c = c * s + 1.0;
    double i = -1.0 / 1307674368000.0;
    i = i * s + 1.0 / 6227020800.0;
    i = i * s - 1.0 / 39916800.0;
    i = i * s + 1.0 / 362880.0;
    i = i * s - 1.0 / 5040.0;
    i = i * s + 1.0 / 120.0;
    i = i * s - 1.0 / 6.0;
    i = i * s + 1.0;
    return sign * (t > 0.25 ? x * i : c);
}

#endif
