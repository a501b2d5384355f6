"""Writes the migrations as C: embed_migrations.py OUTPUT.c NNNN_name.sql…; the numbers must be 1, 2, 3 …"""
import os
import sys

output, files = sys.argv[1], sorted(sys.argv[2:], key=os.path.basename)
rows = []
for number, path in enumerate(files, 1):
    name = os.path.basename(path).removesuffix(".sql")
    if int(name.split("_", 1)[0]) != number:
        sys.exit(f"{path}: expected number {number:04}")
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    quoted = "\n".join('        "' + l.replace("\\", "\\\\").replace('"', '\\"') + '\\n"' for l in lines)
    rows.append(f'    {{{number}, "{name}",\n{quoted}}},\n')
with open(output, "w", encoding="utf-8") as f:
    f.write('/* Made by embed_migrations.py. */\n#include "store/database.h"\n\n'
            "const struct rp_migration rp_migrations[] = {\n" + "".join(rows) + "};\n"
            f"const unsigned rp_migrations_count = {len(rows)};\n")
