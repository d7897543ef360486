# The front door: each target is one script of tools/dev or one CMake preset.
.PHONY: help setup release run test bench soak check coverage clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup:  ## install the Debian packages of tools/dev/packages.txt that are missing
	@tools/dev/setup

release: setup  ## build/release/libtarn.so and build/release/tarn
	@tools/dev/build release

run: release  ## real programs on glibc and on Tarn, with a memory report
	@tools/dev/run

test: setup  ## every test, in the presets of tools/dev/test
	@tools/dev/test

bench: release  ## Tarn against its peers; ROWS=a,b ROUNDS=n LIBS="--lib name=path.so" DOCS=1
	@tools/dev/bench $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(LIBS) $(if $(DOCS),--docs)

soak: setup  ## the same tests, long, in every preset
	@tools/dev/test --soak

check: setup  ## format, tidy, layers, style, documents
	@tools/dev/check

coverage: setup  ## line coverage of src/
	@tools/dev/coverage

clean:  ## remove build/
	@rm -rf build
