/* Runs a fuzz target over every file of the corpus folders that are named: the corpus as a regression test.
 */
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    unsigned count = 0;
    for (int i = 1; i < argc; i++) {
        _cleanup_dir_ DIR *dir = opendir(argv[i]);
        if (!dir) {
            perror(argv[i]);
            return 1;
        }
        struct dirent *e;
        while ((e = readdir(dir))) {
            if (e->d_name[0] == '.')
                continue;
            _cleanup_free_ char *path = rp_asprintf("%s/%s", argv[i], e->d_name);
            _cleanup_file_ FILE *f = fopen(path, "re");
            struct stat st;
            if (!f || fstat(fileno(f), &st) < 0) {
                perror(path);
                return 1;
            }
            /* exactly as large as the input, so that a sanitizer sees one byte too many */
            _cleanup_free_ uint8_t *data = rp_alloc((size_t)st.st_size);
            size_t n = fread(data, 1, (size_t)st.st_size, f);
            LLVMFuzzerTestOneInput(data, n);
            count++;
        }
    }
    printf("%u inputs\n", count);
    return count ? 0 : 1;
}
