#include "orchestrator/volume_space.h"

#include "orchestrator/volume.h"

/* Room that should be free in the image: what arrives between two looks at the fastest, and then some. */
#define ROOM_MIN (UINT64_C(256) << 20)
#define ROOM_MAX (UINT64_C(4) << 30)

/*
 * The largest size is one whose every byte the disk could take with the reserve untouched. Below what is
 * allocated, and one chunk for metadata to grow into, it does not shrink: a file system whose metadata is
 * full cannot even remove files. That much may come out of the reserve.
 */
uint64_t rp_volume_size_wanted(const struct rp_volume_space *s, uint64_t reserve)
{
    uint64_t most = rp_volume_image_size_max(s, reserve);
    uint64_t quarter = s->size / 4;
    uint64_t room = quarter < ROOM_MIN ? ROOM_MIN : quarter > ROOM_MAX ? ROOM_MAX : quarter;
    if (s->size > most) {
        uint64_t least = s->size - s->unallocated + RP_MAX(s->chunk, RP_VOLUME_STEP);
        uint64_t size = RP_MAX(most, RP_VOLUMES_SIZE_MIN);
        size = RP_MAX(size, least);
        return size + RP_VOLUME_STEP <= s->size ? size : s->size;
    }
    if (s->inside_free >= room && s->unallocated >= s->chunk)
        return s->size;
    uint64_t size = s->size + room;
    size = RP_MIN(size, most);
    return size >= s->size + RP_VOLUME_STEP ? size : s->size;
}

bool rp_volume_guard_look(struct rp_volume_guard *g, struct rp_volume_image *i)
{
    struct rp_volume_space s;
    if (rp_volume_image_space(i, &s, NULL) < 0)
        return false;
    uint64_t size = rp_volume_size_wanted(&s, i->reserve);
    bool changed = size != s.size && rp_volume_image_resize(i, size, NULL) == 0;
    bool busy = g->last_free > s.inside_free + RP_VOLUME_STEP / 2 || changed;
    g->last_free = s.inside_free;
    return busy;
}
