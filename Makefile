# Thin aliases: bin/run and bin/test do the work and need no make.
.PHONY: run test quick lock

run:
	@bin/run

test:
	@bin/test

quick:
	@bin/test quick

lock:
	@bin/lock
