# `check` is what continuous integration runs, word for word.

default: check

# Tests, then the lints.
check: test lint

test:
    ops/test

lint:
    ops/lint

# Rebuilds .sqlx after a change of a migration or of a query.
prepare:
    ops/prepare
