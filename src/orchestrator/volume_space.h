/*
 * volume_space.h: keeps the image larger than what is in it, and never larger than the disk below could back.
 *
 * It grows before it fills. And where something else has taken the disk since, it shrinks again, which costs
 * nothing as long as only unused room at its end goes: projects then see "no space left" as on any full disk,
 * instead of the image's writes failing below the file system, which would make all of it read-only. Only
 * ever used by the volumes' own thread.
 */
#ifndef RP_ORCHESTRATOR_VOLUME_SPACE_H
#define RP_ORCHESTRATOR_VOLUME_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "orchestrator/volume_image.h"

/* Smallest change that is worth making. */
#define RP_VOLUME_STEP (UINT64_C(64) << 20)

/* The size that the image should have; pure, so that it can be tested without a disk. */
uint64_t rp_volume_size_wanted(const struct rp_volume_space *s, uint64_t reserve);

struct rp_volume_guard {
    uint64_t last_free;
};

/* Looks, and does what the plan says. True when space goes so fast that it should look again soon. */
bool rp_volume_guard_look(struct rp_volume_guard *g, struct rp_volume_image *i);

#endif
