/* Prints how many operations per CPU second one core does at most, if each product and each sum is rounded: chains of
   products and sums that stay in registers, of the vectors that core.h chooses. */
#include "core.h"

#include <stdio.h>
#include <time.h>

#define CHAINS 12 /* hide the latency of a product and a sum */
#define TIMES 20000000L

int main(int words, char **unused) {
    (void)unused;
    vector sums[CHAINS], factor = SPREAD(0.999f), term = SPREAD(0.001f * (float)words);
    for (int k = 0; k < CHAINS; k++) sums[k] = SPREAD((float)k);
    clock_t started = clock();
    for (long i = 0; i < TIMES; i++)
        for (int k = 0; k < CHAINS; k++) sums[k] = sums[k] * factor + term;
    double seconds = (double)(clock() - started) / CLOCKS_PER_SEC;
    float total = 0.0f; /* so that no compiler leaves the loop out */
    for (int k = 0; k < CHAINS; k++) total += sums[k][0];
    printf("%.9g %g\n", 2.0 * LANES * CHAINS * TIMES / seconds, total);
    return 0;
}
