#include "orchestrator/backend.h"

#include "base/log.h"
#include "sandbox/oci/host_limits.h"
#include "sandbox/oci/network.h"
#include "sandbox/oci/oci.h"

void rp_backend_close(struct rp_backend *b)
{
    if (b->driver)
        b->driver->ops->free(b->driver);
    rp_network_close(b->network);
    rp_volumes_close(b->volumes);
    *b = (struct rp_backend){0};
}

static int open_all(const struct rp_settings *s, struct rp_backend *b, struct rp_error *err)
{
    struct rp_volumes_options volumes = {
        .data_dir = s->data_dir, .size = s->volume_size, .reserve = s->volume_reserve};
    struct rp_network_options network = {.runtime_dir = s->runtime_dir,
                                         .prefix = s->network_prefix,
                                         .resolver = s->resolver,
                                         .allow_hosts = s->allow_hosts};
    if (rp_volumes_open(&volumes, &b->volumes, err) < 0)
        return rp_error_prefix(err, "volumes");
    if (rp_network_open(&network, &b->network, err) < 0)
        return rp_error_prefix(err, "network");
    if (rp_oci_driver_open(s, b->network, &b->driver, err) < 0)
        return rp_error_prefix(err, "OCI driver");
    /* A host that refuses (a container, say) serves all the same. */
    struct rp_error why = {0};
    if (rp_host_limits_raise(s->max_sandboxes, &why) < 0)
        rp_log(RP_LOG_WARNING, "one sandbox can use up what all have", "why", why.message, NULL);
    return 0;
}

int rp_backend_open(const struct rp_settings *s, struct rp_backend *ret, struct rp_error *err)
{
    struct rp_backend b = {0};
    if (open_all(s, &b, err) < 0) {
        rp_backend_close(&b);
        return -1;
    }
    *ret = b;
    return 0;
}
