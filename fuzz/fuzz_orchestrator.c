/* The messages that the orchestrator (root) and the gateway take from each other: whatever is decoded can be
 * encoded again, and is then the same. */
#include <stdlib.h>
#include <string.h>

#include "orchestrator/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int direction = RP_TO_ORCHESTRATOR; direction <= RP_TO_GATEWAY; direction++) {
        struct rp_orchestrator_message m, again;
        struct rp_error e;
        uint8_t out[RP_ORCH_MESSAGE_SIZE_MAX];
        if (rp_orchestrator_decode(data, size, (enum rp_orchestrator_direction)direction, &m, &e) < 0)
            continue;
        int n = rp_orchestrator_encode(&m, (enum rp_orchestrator_direction)direction, out, sizeof(out));
        if (n < 0 || (size_t)n != size ||
            rp_orchestrator_decode(out, (size_t)n, (enum rp_orchestrator_direction)direction, &again, &e) < 0)
            abort();
    }
    return 0;
}
