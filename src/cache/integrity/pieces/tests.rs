use super::*;
use crate::origin::{HashAlgorithm, ListedSize};
use proptest::prelude::*;

fn bytes(size: u64) -> Vec<u8> {
    (0..size).map(|at| (at * 131 % 251) as u8).collect()
}

fn published(data: &[u8], length: u64) -> Arc<Published> {
    let hash = |piece: &[u8]| {
        let mut hasher = Hasher::new(HashAlgorithm::Sha1);
        hasher.update(piece);
        hasher.finish()
    };
    let hashes = data.chunks(length as usize).map(hash).collect();
    Arc::new(Published {
        pieces: Some(Pieces { length, hashes }),
        ..Published::default()
    })
}

fn url(host: &str) -> Url {
    Url::parse(&format!("http://{host}/f")).unwrap()
}

#[test]
fn chunk_is_no_shorter_than_a_piece() {
    let size = |length: u64| {
        let content = Content::at(url("h"), ListedSize::Unknown).with(Some(published(&[1], length)));
        chunk_size(&content, ChunkSize::new(256 << 10).unwrap()).bytes()
    };
    assert_eq!(
        [size(1), size(256 << 10), size(1_000_000)],
        [256 << 10, 256 << 10, 1 << 20]
    );
    assert_eq!(size(MOST), MOST);
    assert_eq!(size(MOST + 1), 256 << 10, "such pieces are not used");
}

#[test]
fn wrong_piece_names_its_sender_if_there_is_one() {
    let data = bytes(10);
    let wrong = |feed: &dyn Fn(&mut PieceFilter)| {
        let mut filter = PieceFilter::new(&published(&data, 4), 0).unwrap();
        filter.note_sender(&url("a"));
        filter.feed(Bytes::from(data[..4].to_vec()), 10).unwrap();
        feed(&mut filter);
        let error = filter.feed(Bytes::from_static(&[0; 4]), 10).unwrap_err();
        assert_eq!(error.index, 1);
        error.sender
    };
    assert_eq!(wrong(&|_| ()), Some(url("a")));
    assert_eq!(wrong(&|filter| filter.note_sender(&url("b"))), Some(url("b")));
    let mixed = wrong(&|filter| {
        filter.feed(Bytes::from_static(&[9]), 10).unwrap();
        filter.note_sender(&url("b"));
    });
    assert_eq!(mixed, None);
    // A file that is longer than its pieces.
    let mut filter = PieceFilter::new(&published(&data, 5), 10).unwrap();
    assert_eq!(
        filter.feed(Bytes::from_static(&[1; 5]), 20).unwrap_err().published,
        None
    );
}

#[test]
fn what_is_cached_continues_a_piece() {
    let data = bytes(100);
    for (cached, is_good) in [(data[60..75].to_vec(), true), (vec![1; 15], false)] {
        let mut filter = PieceFilter::new(&published(&data, 30), 75).unwrap();
        filter.note_sender(&url("a"));
        filter.continue_from(&cached);
        assert_eq!((filter.at(), filter.yielded()), (75, 75));
        let fed = filter.feed(Bytes::from(data[75..].to_vec()), 100);
        match is_good {
            true => assert_eq!(filter.take().unwrap(), data[75..90]),
            false => assert_eq!(fed.unwrap_err().sender, None, "the cache may be wrong"),
        }
    }
}

proptest! {
    /// Whatever is requested and however it comes: what is yielded is the file from `first` to the last whole piece.
    #[test]
    fn only_whole_pieces_are_yielded(
        size in 1u64..3000, length in 1u64..700, first: u64, cuts in prop::collection::vec(1usize..500, 1..20), wrong: Option<u16>,
    ) {
        let (data, first) = (bytes(size), first % size);
        let published = published(&data, length);
        let pieces = published.pieces.as_ref().unwrap();
        let wide = widened(pieces, &(first..size), Some(size));
        prop_assert_eq!(wide.clone(), first - first % length..size);
        let mut sent = data.clone();
        let wrong = wrong.map(|at| u64::from(at) % size).filter(|at| wide.contains(at));
        if let Some(at) = wrong {
            sent[at as usize] ^= 1;
        }
        let mut filter = PieceFilter::new(&published, first).unwrap();
        prop_assert_eq!(filter.at(), wide.start);
        let (mut rest, mut yielded, mut failed) = (&sent[wide.start as usize..], Vec::new(), None);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            if let Err(error) = filter.feed(Bytes::from(now.to_vec()), size) {
                failed = Some(error.index);
            }
            while let Some(bytes) = filter.take() {
                yielded.extend_from_slice(&bytes);
            }
            if failed.is_some() || rest.is_empty() { break; }
            prop_assert_eq!(filter.yielded(), first + yielded.len() as u64);
        }
        prop_assert_eq!(failed, wrong.map(|at| at / length));
        let end = wrong.map_or(size, |at| (at - at % length).max(first));
        prop_assert_eq!(&yielded[..], &data[first as usize..end as usize]);
    }
}
