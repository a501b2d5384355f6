# What each of these does is in tools/; they install what they need and ask for root where they need it.

.PHONY: build run test bench format lint clean

build:
	@tools/setup build
	@tools/build

run:
	@tools/run

test:
	@tools/as-root "install packages, build environments, and run tests that make namespaces, mounts and cgroups" tools/test

bench: build
	@tools/as-root "install packages, build environments, and run sandboxes" tools/bench

format:
	@tools/format

lint:
	@tools/lint

clean:
	rm -rf build build-asan build-fuzz
