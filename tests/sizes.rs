//! Sizes that no listing gives: they are requested on demand, and a file without a size is read to its end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::process::Command;

use crate::common::files::{sha256, sha256_of};
use crate::common::{Mount, run};
use crate::filesystem::{names, stat};
use crate::origin::{Content, Fault, Framing, Gate, IndexStyle, Origin};

#[test]
fn names_show_before_sizes_which_are_requested_in_parallel() {
    const FILES: usize = 40;
    /// Of the 16 connections; the rest is for other requests.
    const SIDE_BY_SIDE: usize = 4;
    let origin = Origin::start();
    origin.set_index_style(IndexStyle::NamesOnly);
    let gate = Gate::new();
    for file in 0..FILES {
        origin.add(&format!("/{file}"), Content::noise(1000 + file as u64, 1));
        origin.on(&format!("/{file}")).fault(Fault::Hold(gate.clone()));
    }
    let mount = Mount::start_of(&origin.url("/"));
    assert_eq!(names(&mount.root()).len(), FILES, "the names need no sizes");
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| run(Command::new("ls").arg("-l").arg(mount.root())).succeeded());
        gate.wait_for_arrivals(SIDE_BY_SIDE);
        gate.open();
        let out = listing.join().expect("ls").out;
        let sizes: BTreeSet<u64> = out
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(4)?.parse().ok())
            .collect();
        assert_eq!(sizes, (1000..1000 + FILES as u64).collect());
    });
}

#[test]
fn sizes_are_found_without_head() {
    let mute = [
        Fault::RefuseHead(405),
        Fault::RefuseHead(403),
        Fault::RefuseHead(501),
        Fault::Framed(Framing::Chunked),
        Fault::Framed(Framing::UntilClose),
    ];
    for fault in mute {
        let origin = Origin::start();
        origin.set_index_style(IndexStyle::NamesOnly);
        origin.on_any().fault(fault.clone());
        let sizes = [0, 1, 70_000, 5_000_000];
        sizes
            .iter()
            .for_each(|&size| origin.add(&format!("/{size}"), Content::noise(size, size)));
        let mount = Mount::start_of(&origin.url("/"));
        for size in sizes {
            assert_eq!(stat(&mount.path(size.to_string())).len(), size, "{fault:?}");
            assert_eq!(
                fs::read(mount.path(size.to_string())).expect("to read"),
                Content::noise(size, size).whole(),
                "{fault:?}"
            );
        }
    }
}

#[test]
fn file_without_a_size_is_read_to_its_end() {
    for framing in [Framing::Chunked, Framing::UntilClose] {
        let (origin, content) = (Origin::start(), Content::noise(5 * (1 << 20) + 7, 42));
        origin.set_index_style(IndexStyle::NamesOnly);
        origin.add("/f", content.clone());
        origin.on("/f").fault(Fault::IgnoreRange(framing));
        let mount = Mount::start_of(&origin.url("/"));
        assert_eq!(stat(&mount.path("f")).len(), 0, "no size is made up");
        for _ in 0..2 {
            assert_eq!(sha256(&mount.path("f")), sha256_of(&content), "{framing:?}");
        }
        let copy = mount.home().join("copy");
        run(Command::new("cp").arg(mount.path("f")).arg(&copy)).succeeded();
        assert_eq!(sha256(&copy), sha256_of(&content));
        let mut file = File::open(mount.path("f")).expect("to open");
        let seek = file.seek(SeekFrom::Start(9)).map_err(|error| error.raw_os_error());
        assert_eq!(seek, Err(Some(libc::ESPIPE)), "there is no going elsewhere");
        let mut start = [0; 1000];
        file.read_exact(&mut start).expect("the beginning");
        assert_eq!(start.as_slice(), content.read(0..1000));
    }
}

#[test]
fn truncated_file_without_a_size_is_an_error() {
    let (origin, content) = (Origin::start(), Content::noise(1 << 20, 43));
    origin.set_index_style(IndexStyle::NamesOnly);
    origin.add("/f", content);
    origin.on("/f").fault(Fault::IgnoreRange(Framing::Chunked));
    origin.on("/f").fault(Fault::CloseAfter(300_000));
    let mount = Mount::start_of(&origin.url("/"));
    let read = fs::read(mount.path("f")).map_err(|error| error.raw_os_error());
    assert_eq!(read.map(|bytes| bytes.len()), Err(Some(libc::EIO)));
}
