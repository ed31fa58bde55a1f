//! Written bytes are read back, and bytes never written, or lost, are detected.

use super::*;

#[test]
fn many_pieces_are_written_in_order() {
    let pieces: Vec<Vec<u8>> = (0..3 * MOST_SLICES).map(|n| vec![n as u8; n % 7]).collect();
    let expected = pieces.concat();
    let data = DataFile::for_tests(100 + expected.len() as u64);
    data.write_all_at(&pieces, 100).unwrap();
    let mut back = vec![1; expected.len()];
    data.read_exact_at(&mut back, 100).unwrap();
    assert_eq!(back, expected);
    data.write_all_at::<Vec<u8>>(&[], 0).unwrap();
    data.write_all_at(&[[]; 3], 0).unwrap();
}

#[test]
fn a_hole_shows_and_so_does_a_cut() {
    let data = DataFile::for_tests(1 << 20);
    data.write_all_at(&[[7; 64 << 10]], 64 << 10).unwrap();
    assert!(!data.has_hole(&(64 << 10..128 << 10)) && !data.has_hole(&(0..0)));
    assert!(data.has_hole(&(0..128 << 10)) && data.has_hole(&(64 << 10..1 << 20)));
    assert_eq!(data.cut_to().unwrap(), None);
    data.file.set_len(100 << 10).unwrap();
    assert_eq!(data.cut_to().unwrap(), Some(100 << 10));
    assert!(data.has_hole(&(512 << 10..1 << 20)), "past the end");
    data.exclusively().unwrap().set_len(1 << 20).unwrap();
    assert_eq!(data.cut_to().unwrap(), None);
}
