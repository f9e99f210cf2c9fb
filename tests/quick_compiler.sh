#!/bin/sh
# g++, for the tests: the kernels of compiled loops are made with -O1, which takes a third of the time less. All else, and
# the kernels of tests/smoke.py, are made as for users.
case "$*" in
  *TORCH_INDUCTOR*)
    for argument; do
      shift
      [ "$argument" = -O3 ] && argument=-O1
      set -- "$@" "$argument"
    done ;;
esac
exec g++ "$@"
