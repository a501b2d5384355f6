/*
 * database.h: one SQLite connection: opening, migrations, statements that are prepared once, errors. One
 * thread at a time. Used inside store/ only.
 */
#ifndef RP_STORE_DATABASE_H
#define RP_STORE_DATABASE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

struct rp_migration {
    unsigned number; /* 1, 2, 3 … */
    const char *name;
    const char *sql;
};
extern const struct rp_migration rp_migrations[];
extern const unsigned rp_migrations_count;

enum { RP_DATABASE_STATEMENTS_MAX = 32 };

struct rp_database {
    sqlite3 *handle;
    struct {
        const char *sql; /* a literal: compared by address */
        sqlite3_stmt *statement;
    } cache[RP_DATABASE_STATEMENTS_MAX];
};

/* WAL, synchronous=FULL: what COMMIT acknowledged survives a power cut. A reader is opened read-only. */
int rp_database_open(const char *path, bool reader, struct rp_database *ret,
                     struct rp_error *err) RP_MUST_CHECK;
void rp_database_close(struct rp_database *d);

/* Applies the migrations that the database has not seen, each in a transaction of its own. A database that is
 * newer than this program is refused. */
int rp_database_migrate(struct rp_database *d, const struct rp_migration *migrations, unsigned count,
                        struct rp_error *err) RP_MUST_CHECK;

/* Runs statements that give no rows. */
int rp_database_run(struct rp_database *d, const char *sql, struct rp_error *err) RP_MUST_CHECK;

/* A prepared statement, reset and without bindings; sql is a literal. It belongs to the connection; reset it
 * after use, so that it holds no lock (RP_STATEMENT does). NULL on failure. */
sqlite3_stmt *rp_database_prepare(struct rp_database *d, const char *sql, struct rp_error *err);

/* 1: a row is there, 0: done, -1. */
int rp_database_step(struct rp_database *d, sqlite3_stmt *s, struct rp_error *err) RP_MUST_CHECK;

/* Fills err from the connection's last error; a full disk is RP_ERROR_DISK_FULL. Returns -1. */
int rp_database_error(struct rp_database *d, const char *doing, struct rp_error *err);

static inline void rp_statement_reset(sqlite3_stmt **s)
{
    if (*s) {
        sqlite3_reset(*s);
        sqlite3_clear_bindings(*s);
    }
}
#define _cleanup_statement_ _cleanup_(rp_statement_reset)

/* Binds text without copying it; NULL binds NULL. */
static inline void rp_bind_text(sqlite3_stmt *s, int at, const char *text)
{
    sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

#endif
