# The front door. `make help` says what there is.

PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
UNITDIR ?= $(PREFIX)/lib/systemd
# mount(8) and umount(8) look for their helpers here and nowhere else.
SBINDIR ?= /sbin

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET)/release/fetchfs

# The helpers and units name the installed program.
INSTALL_TEXT = sed -e 's|^BINDIR=.*|BINDIR=$(BINDIR)|' -e 's|/usr/local/bin/fetchfs|$(BINDIR)/fetchfs|'

.DEFAULT_GOAL := build
.PHONY: build test bench bench-quick demo demo-stop install uninstall fmt lint clean help cargo

build: cargo ## Build the program (the default)
	$(CARGO) build --release --bins

test: cargo ## Run all tests, after installing what they need
	scripts/install-deps.sh test
	$(CARGO) test

bench: cargo ## Measure fetchfs beside rclone and httpdirfs, some 40 minutes; BENCH_ARGS="--help" says what else it can
	scripts/install-deps.sh bench
	$(CARGO) bench --bench side_by_side -- $(BENCH_ARGS)

bench-quick: cargo ## The same in two minutes, with less of everything
	scripts/install-deps.sh bench
	$(CARGO) bench --bench side_by_side -- --quick $(BENCH_ARGS)

demo: cargo ## Mount a small sample server's files and look around
	scripts/install-deps.sh demo
	$(CARGO) build --release --bins --example sample_origin
	scripts/demo.sh

demo-stop: ## End the demo
	scripts/demo.sh stop

install: $(BINARY) ## Install below PREFIX (/usr/local), mount(8)'s helpers to SBINDIR (/sbin); DESTDIR goes before both
	install -D -m 755 $(BINARY) $(DESTDIR)$(BINDIR)/fetchfs
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(UNITDIR)/system $(DESTDIR)$(UNITDIR)/user
	$(INSTALL_TEXT) mount-helpers/mount.fetchfs >$(DESTDIR)$(SBINDIR)/mount.fetchfs
	$(INSTALL_TEXT) mount-helpers/umount.fuse.fetchfs >$(DESTDIR)$(SBINDIR)/umount.fuse.fetchfs
	chmod 755 $(DESTDIR)$(SBINDIR)/mount.fetchfs $(DESTDIR)$(SBINDIR)/umount.fuse.fetchfs
	$(INSTALL_TEXT) mount-helpers/systemd/fetchfs@.service >$(DESTDIR)$(UNITDIR)/system/fetchfs@.service
	$(INSTALL_TEXT) mount-helpers/systemd/user/fetchfs@.service >$(DESTDIR)$(UNITDIR)/user/fetchfs@.service

uninstall: ## Remove what `make install` has put there; caches stay
	rm -f $(DESTDIR)$(BINDIR)/fetchfs
	rm -f $(DESTDIR)$(SBINDIR)/mount.fetchfs $(DESTDIR)$(SBINDIR)/umount.fuse.fetchfs
	rm -f $(DESTDIR)$(UNITDIR)/system/fetchfs@.service $(DESTDIR)$(UNITDIR)/user/fetchfs@.service

fmt: cargo ## Format the code
	$(CARGO) fmt

lint: cargo ## What CI insists on besides the tests
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

clean: cargo ## Remove what was built
	$(CARGO) clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Built only when it is missing: `sudo make install` after `make` needs no Rust for root.
$(BINARY):
	$(MAKE) build

cargo:
	@command -v $(CARGO) >/dev/null || { echo "fetchfs is built with Rust 1.89 or later, which is not here; get it from https://rustup.rs, then open a new shell" >&2; exit 1; }
