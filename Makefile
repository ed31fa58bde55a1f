# The front door. `make help` says what there is.

PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
UNITDIR ?= $(PREFIX)/lib/systemd
MANDIR  ?= $(PREFIX)/share/man
# Where the shells look for completions.
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
# mount(8) and umount(8) look for their helpers here and nowhere else.
SBINDIR ?= /sbin
# What udev runs, and its rules.
LIBEXECDIR ?= $(PREFIX)/libexec
UDEVDIR    ?= $(PREFIX)/lib/udev/rules.d
# The settings of updatedb(8), if it is installed: it does not walk mounts of fetchfs.
UPDATEDB_CONF ?= /etc/updatedb.conf

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET)/release/fetchfs

# Programs that only checks need, built from crates.io; `make clean` removes them.
TOOLS        := $(TARGET)/tools
DENY_VERSION := 0.20.2

# The helpers and units name the installed program.
INSTALL_TEXT = sed -e 's|^BINDIR=.*|BINDIR=$(BINDIR)|' -e 's|/usr/local/bin/fetchfs|$(BINDIR)/fetchfs|' -e 's|/usr/local/libexec|$(LIBEXECDIR)|'

.DEFAULT_GOAL := build
.PHONY: build test bench bench-quick demo demo-library demo-stop install uninstall deb fmt lint deny fuzz clean help cargo

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
	$(CARGO) build --release --workspace --bins
	scripts/demo.sh

demo-library: cargo ## Mount a library of sources of several kinds, each from a small server
	scripts/install-deps.sh demo
	$(CARGO) build --release --workspace --bins
	scripts/demo.sh library

demo-stop: ## End the demo
	scripts/demo.sh stop

install: $(BINARY) ## Install below PREFIX (/usr/local), mount(8)'s helpers to SBINDIR (/sbin); DESTDIR goes before both
	install -D -m 755 $(BINARY) $(DESTDIR)$(BINDIR)/fetchfs
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(UNITDIR)/system $(DESTDIR)$(UNITDIR)/user
	$(INSTALL_TEXT) mount-helpers/mount.fetchfs >$(DESTDIR)$(SBINDIR)/mount.fetchfs
	$(INSTALL_TEXT) mount-helpers/umount.fuse.fetchfs >$(DESTDIR)$(SBINDIR)/umount.fuse.fetchfs
	ln -sf mount.fetchfs $(DESTDIR)$(SBINDIR)/mount.fuse.fetchfs
	chmod 755 $(DESTDIR)$(SBINDIR)/mount.fetchfs $(DESTDIR)$(SBINDIR)/umount.fuse.fetchfs
	$(INSTALL_TEXT) mount-helpers/systemd/fetchfs@.service >$(DESTDIR)$(UNITDIR)/system/fetchfs@.service
	$(INSTALL_TEXT) mount-helpers/systemd/user/fetchfs@.service >$(DESTDIR)$(UNITDIR)/user/fetchfs@.service
	install -D -m 755 mount-helpers/udev/fetchfs-readahead $(DESTDIR)$(LIBEXECDIR)/fetchfs-readahead
	install -D -m 755 mount-helpers/updatedb/fetchfs-updatedb $(DESTDIR)$(LIBEXECDIR)/fetchfs-updatedb
	mount-helpers/updatedb/fetchfs-updatedb add $(DESTDIR)$(UPDATEDB_CONF)
	install -d $(DESTDIR)$(UDEVDIR)
	$(INSTALL_TEXT) mount-helpers/udev/60-fetchfs-readahead.rules >$(DESTDIR)$(UDEVDIR)/60-fetchfs-readahead.rules
	install -d $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	$(BINARY) man $(DESTDIR)$(MANDIR)/man1
	mv $(DESTDIR)$(MANDIR)/man1/fetchfs.toml.5 $(DESTDIR)$(MANDIR)/man5/
	mv $(DESTDIR)$(MANDIR)/man1/mount.fetchfs.8 $(DESTDIR)$(MANDIR)/man8/
	$(BINARY) completions bash >$(DESTDIR)$(BASHDIR)/fetchfs
	$(BINARY) completions zsh >$(DESTDIR)$(ZSHDIR)/_fetchfs
	$(BINARY) completions fish >$(DESTDIR)$(FISHDIR)/fetchfs.fish

uninstall: ## Remove what `make install` has put there; caches stay
	rm -f $(DESTDIR)$(BINDIR)/fetchfs
	rm -f $(DESTDIR)$(SBINDIR)/mount.fetchfs $(DESTDIR)$(SBINDIR)/mount.fuse.fetchfs $(DESTDIR)$(SBINDIR)/umount.fuse.fetchfs
	mount-helpers/updatedb/fetchfs-updatedb remove $(DESTDIR)$(UPDATEDB_CONF)
	rm -f $(DESTDIR)$(LIBEXECDIR)/fetchfs-updatedb
	rm -f $(DESTDIR)$(LIBEXECDIR)/fetchfs-readahead $(DESTDIR)$(UDEVDIR)/60-fetchfs-readahead.rules
	rm -f $(DESTDIR)$(UNITDIR)/system/fetchfs@.service $(DESTDIR)$(UNITDIR)/user/fetchfs@.service
	rm -f $(DESTDIR)$(MANDIR)/man1/fetchfs.1 $(DESTDIR)$(MANDIR)/man1/fetchfs-*.1
	rm -f $(DESTDIR)$(MANDIR)/man5/fetchfs.toml.5 $(DESTDIR)$(MANDIR)/man8/mount.fetchfs.8
	rm -f $(DESTDIR)$(BASHDIR)/fetchfs $(DESTDIR)$(ZSHDIR)/_fetchfs $(DESTDIR)$(FISHDIR)/fetchfs.fish

deb: build ## Make a Debian package in target/debian; needs dpkg-dev
	scripts/make-deb.sh $(BINARY) $(TARGET)/debian

fmt: cargo ## Format the code
	$(CARGO) fmt --all

lint: cargo ## What CI insists on besides the tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

deny: cargo ## Check licences and origins of what fetchfs is built from, by cargo-deny, which is built first where it is missing
	@command -v cargo-deny >/dev/null || [ -x $(TOOLS)/bin/cargo-deny ] || $(CARGO) install --locked --root $(TOOLS) cargo-deny@$(DENY_VERSION)
	PATH="$$PATH:$(abspath $(TOOLS))/bin" $(CARGO) deny check licenses bans sources

# Each target for so long, in seconds. What it finds to be worth keeping goes to target/fuzz; what fails to fuzz/artifacts.
FUZZ_SECONDS ?= 30
FUZZ_TARGETS := $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs))

fuzz: cargo ## Feed the parsers nonsense; FUZZ_SECONDS=30 for each of them. Needs a nightly Rust and cargo-fuzz
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p $(TARGET)/fuzz/$$target; \
		seeds=fuzz/corpus/$$target; \
		case $$target in listing) seeds=tests/fixtures/listings ;; webdav) seeds=tests/fixtures/webdav ;; s3) seeds=tests/fixtures/s3 ;; esac; \
		echo "fuzz: $$target"; \
		$(CARGO) +nightly fuzz run $$target $(TARGET)/fuzz/$$target $$seeds -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -verbosity=0 || exit 1; \
	done

clean: cargo ## Remove what was built
	$(CARGO) clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Built only when it is missing: `sudo make install` after `make` needs no Rust for root.
$(BINARY):
	$(MAKE) build

cargo:
	@command -v $(CARGO) >/dev/null || { echo "fetchfs is built with Rust 1.89 or later, which is not here; get it from https://rustup.rs, then open a new shell" >&2; exit 1; }
