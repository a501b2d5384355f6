#include "store/database.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

int rp_database_error(struct rp_database *d, const char *doing, struct rp_error *err)
{
    int extended = d->handle ? sqlite3_extended_errcode(d->handle) : SQLITE_NOMEM;
    int errnum = d->handle ? sqlite3_system_errno(d->handle) : 0;
    const char *why = d->handle ? sqlite3_errmsg(d->handle) : "out of memory";
    enum rp_code code = RP_ERROR_INTERNAL;

    switch (extended & 0xff) {
    case SQLITE_FULL:
        code = RP_ERROR_DISK_FULL;
        break;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        code = errnum == ENOSPC || errnum == EDQUOT ? RP_ERROR_DISK_FULL : RP_ERROR_UNAVAILABLE;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_READONLY:
        code = RP_ERROR_UNAVAILABLE;
        break;
    case SQLITE_CONSTRAINT:
        if (extended == SQLITE_CONSTRAINT_PRIMARYKEY || extended == SQLITE_CONSTRAINT_UNIQUE)
            code = RP_ERROR_EXISTS;
        break;
    }
    (void)rp_error_set(err, code, "%s: %s", doing, why);
    if (err)
        err->errno_value = errnum;
    return -1;
}

int rp_database_open(const char *path, bool reader, struct rp_database *ret, struct rp_error *err)
{
    struct rp_database d = {0};
    int flags =
        SQLITE_OPEN_NOMUTEX | (reader ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);

    if (sqlite3_open_v2(path, &d.handle, flags, NULL) != SQLITE_OK) {
        (void)rp_database_error(&d, "open the database", err);
        (void)rp_error_prefix(err, "\"%s\"", path);
        rp_database_close(&d);
        return -1;
    }
    sqlite3_extended_result_codes(d.handle, 1);
    sqlite3_busy_timeout(d.handle, 5000);
    sqlite3_db_config(d.handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(d.handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    /* the caches are small: every project is held in memory by the domain, so a page is seldom read twice */
    const char *settings = reader
                               ? "PRAGMA cache_size=-256;"
                               : "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                                 "PRAGMA cache_size=-1024; PRAGMA journal_size_limit=4194304;";
    if (rp_database_run(&d, settings, err) < 0) {
        (void)rp_error_prefix(err, "\"%s\"", path);
        rp_database_close(&d);
        return -1;
    }
    *ret = d;
    return 0;
}

void rp_database_close(struct rp_database *d)
{
    for (unsigned i = 0; i < RP_DATABASE_STATEMENTS_MAX; i++)
        sqlite3_finalize(d->cache[i].statement);
    sqlite3_close(d->handle);
    *d = (struct rp_database){0};
}

int rp_database_run(struct rp_database *d, const char *sql, struct rp_error *err)
{
    if (sqlite3_exec(d->handle, sql, NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    char doing[64];
    snprintf(doing, sizeof doing, "%.40s", sql);
    return rp_database_error(d, doing, err);
}

sqlite3_stmt *rp_database_prepare(struct rp_database *d, const char *sql, struct rp_error *err)
{
    unsigned i = 0;
    while (i < RP_DATABASE_STATEMENTS_MAX && d->cache[i].sql && d->cache[i].sql != sql)
        i++;
    if (i == RP_DATABASE_STATEMENTS_MAX) {
        (void)rp_error_set(err, RP_ERROR_INTERNAL, "more than %d statements", RP_DATABASE_STATEMENTS_MAX);
        return NULL;
    }
    if (!d->cache[i].sql) {
        if (sqlite3_prepare_v3(d->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &d->cache[i].statement, NULL) !=
            SQLITE_OK) {
            (void)rp_database_error(d, "prepare", err);
            return NULL;
        }
        d->cache[i].sql = sql;
    }
    return d->cache[i].statement;
}

int rp_database_step(struct rp_database *d, sqlite3_stmt *s, struct rp_error *err)
{
    switch (sqlite3_step(s)) {
    case SQLITE_ROW:
        return 1;
    case SQLITE_DONE:
        return 0;
    default:
        return rp_database_error(d, "database", err);
    }
}

/* ---- migrations ---- */

static int applied_version(struct rp_database *d, unsigned *ret, struct rp_error *err)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(d->handle, "SELECT coalesce(max(version), 0) FROM schema_version", -1, &s, NULL) !=
        SQLITE_OK)
        return rp_database_error(d, "read the schema's version", err);
    int r = rp_database_step(d, s, err);
    if (r > 0)
        *ret = (unsigned)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return r < 0 ? -1 : 0;
}

static int apply(struct rp_database *d, const struct rp_migration *m, struct rp_error *err)
{
    char record[160];
    snprintf(record, sizeof record, "INSERT INTO schema_version VALUES (%u, %lld)", m->number,
             (long long)rp_clock_wall_us());
    if (rp_database_run(d, "BEGIN IMMEDIATE", err) < 0)
        return -1;
    if (rp_database_run(d, m->sql, err) < 0 || rp_database_run(d, record, err) < 0 ||
        rp_database_run(d, "COMMIT", err) < 0) {
        struct rp_error ignored;
        (void)!rp_database_run(d, "ROLLBACK", &ignored);
        return rp_error_prefix(err, "migration %s", m->name);
    }
    return 0;
}

int rp_database_migrate(struct rp_database *d, const struct rp_migration *migrations, unsigned count,
                        struct rp_error *err)
{
    unsigned version = 0;
    if (rp_database_run(d,
                        "CREATE TABLE IF NOT EXISTS schema_version"
                        "(version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT",
                        err) < 0 ||
        applied_version(d, &version, err) < 0)
        return -1;
    if (version > count)
        return rp_error_set(
            err, RP_ERROR_CONFLICT,
            "the database has schema version %u, this program knows up to %u: use a newer repld", version,
            count);
    for (unsigned i = version; i < count; i++)
        if (apply(d, &migrations[i], err) < 0)
            return -1;
    return 0;
}
