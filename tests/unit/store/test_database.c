/* One connection: migrations, versions, errors. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/database.h"

static char dir[64], path[96];

static int setup(void **state)
{
    strcpy(dir, "/tmp/rp-database-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/t.db", dir);
    return 0;
}

static int teardown(void **state)
{
    const char *suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(suffixes); i++) {
        char p[128];
        snprintf(p, sizeof p, "%s%s", path, suffixes[i]);
        unlink(p);
    }
    return rmdir(dir);
}

static int64_t number(struct rp_database *d, const char *sql)
{
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(d->handle, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t v = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return v;
}

static void test_migrations_apply_once_and_in_order(void **state)
{
    const struct rp_migration m[] = {{1, "0001_a", "CREATE TABLE a (x); INSERT INTO a VALUES (1);"},
                                     {2, "0002_b", "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = 7;"}};
    struct rp_database d;
    struct rp_error err = {0};
    assert_int_equal(rp_database_open(path, false, &d, &err), 0);
    assert_int_equal(rp_database_migrate(&d, m, 1, &err), 0);
    assert_int_equal(rp_database_migrate(&d, m, 2, &err), 0);
    assert_int_equal(rp_database_migrate(&d, m, 2, &err), 0);
    assert_int_equal(number(&d, "SELECT count(*) FROM a"), 1);
    assert_int_equal(number(&d, "SELECT y FROM a"), 7);
    assert_int_equal(number(&d, "SELECT max(version) FROM schema_version"), 2);
    rp_database_close(&d);
}

static void test_a_newer_database_is_refused(void **state)
{
    const struct rp_migration m[] = {{1, "0001_a", "CREATE TABLE a (x)"},
                                     {2, "0002_b", "CREATE TABLE b (x)"}};
    struct rp_database d;
    struct rp_error err = {0};
    assert_int_equal(rp_database_open(path, false, &d, &err), 0);
    assert_int_equal(rp_database_migrate(&d, m, 2, &err), 0);
    assert_int_equal(rp_database_migrate(&d, m, 1, &err), -1);
    assert_non_null(strstr(err.message, "newer"));
    rp_database_close(&d);
}

static void test_a_failing_migration_leaves_nothing(void **state)
{
    const struct rp_migration m[] = {{1, "0001_a", "CREATE TABLE a (x); CREATE TABLE nonsense nonsense"}};
    struct rp_database d;
    struct rp_error err = {0};
    assert_int_equal(rp_database_open(path, false, &d, &err), 0);
    assert_int_equal(rp_database_migrate(&d, m, 1, &err), -1);
    assert_non_null(strstr(err.message, "0001_a"));
    assert_int_equal(number(&d, "SELECT count(*) FROM sqlite_schema WHERE name = 'a'"), 0);
    assert_int_equal(number(&d, "SELECT count(*) FROM schema_version"), 0);
    rp_database_close(&d);
}

static void test_the_program_s_own_migrations(void **state)
{
    struct rp_database d;
    struct rp_error err = {0};
    assert_true(rp_migrations_count >= 1);
    assert_int_equal(rp_database_open(path, false, &d, &err), 0);
    assert_int_equal(rp_database_migrate(&d, rp_migrations, rp_migrations_count, &err), 0);
    assert_int_equal(number(&d, "SELECT count(*) FROM projects"), 0);
    assert_int_equal(number(&d, "PRAGMA synchronous"), 2);
    rp_database_close(&d);
}

static void test_a_full_database_says_disk_full(void **state)
{
    struct rp_database d;
    struct rp_error err = {0};
    assert_int_equal(rp_database_open(path, false, &d, &err), 0);
    assert_int_equal(rp_database_run(&d, "CREATE TABLE a (x); PRAGMA max_page_count = 4;", &err), 0);
    assert_int_equal(rp_database_run(&d, "INSERT INTO a VALUES (zeroblob(1000000))", &err), -1);
    assert_int_equal(err.code, RP_ERROR_DISK_FULL);
    rp_database_close(&d);
}

static void test_what_cannot_be_opened_is_named(void **state)
{
    struct rp_database d;
    struct rp_error err = {0};
    assert_int_equal(rp_database_open("/nonexistent/t.db", false, &d, &err), -1);
    assert_non_null(strstr(err.message, "/nonexistent/t.db"));
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is not a database ", f);
    fclose(f);
    assert_int_equal(rp_database_open(path, false, &d, &err), -1);
    assert_non_null(strstr(err.message, "not a database"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_migrations_apply_once_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_newer_database_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_failing_migration_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_program_s_own_migrations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_database_says_disk_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_opened_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
