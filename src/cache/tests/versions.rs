//! Which version of a file is served, and its length.

use std::sync::Barrier;

use super::*;

#[test]
fn another_version_is_an_error_and_cached_bytes_stay() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(4 << 20));
    let server = Server::start(
        file.clone(),
        |before, _| if before == 0 { Honest } else { Tagged("v2") },
    );
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 4 << 20);
    assert_eq!(read(&reader, 0, 100).unwrap(), part(&file, 0, 100));
    assert!(matches!(read(&reader, 2 << 20, 100), Err(ReadError::Changed)));
    assert!(reader.entry().is_changed());
    assert_eq!(read(&reader, 0, 100).unwrap(), part(&file, 0, 100));
    drop(reader);
    mount.end();
}

#[test]
fn parallel_first_fetches_agree_on_the_version() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(4 << 20));
    let both = Barrier::new(2);
    let server = Server::start(file.clone(), move |before, _| {
        if before < 2 {
            both.wait();
        }
        Honest
    });
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 4 << 20);
    thread::scope(|scope| {
        for offset in [0, 3 << 20] {
            let (reader, file) = (&reader, &file);
            scope.spawn(move || assert_eq!(read(reader, offset, C).unwrap(), part(file, offset, C)));
        }
    });
    assert_eq!(server.asked().len(), 2);
    drop(reader);
    mount.end();
    let mount = Mount::over(dir.path());
    let reader = mount.held(&server);
    assert_eq!(read(&reader, 3 << 20, C).unwrap(), part(&file, 3 << 20, C));
    assert_eq!(server.asked().len(), 2);
    drop(reader);
    mount.end();
}

#[test]
fn two_first_fetches_of_different_versions_don_t_mix() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(4 << 20));
    let both = Barrier::new(2);
    let server = Server::start(file.clone(), move |before, _| {
        if before < 2 {
            both.wait();
        }
        if before == 0 { Honest } else { Tagged("v2") }
    });
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 4 << 20);
    let good = thread::scope(|scope| {
        let readers = [0, 3 << 20].map(|offset| {
            let reader = &reader;
            scope.spawn(move || read(reader, offset, C).is_ok())
        });
        readers
            .into_iter()
            .filter_map(|reader| reader.join().unwrap().then_some(()))
            .count()
    });
    // The new version is read; or the old one was settled first, and is not read further.
    let version = reader.entry().settled().expect("it was told").version.clone();
    let is_new = version.validator == Validator::Strong("\"v2\"".into());
    assert!(
        is_new || (good <= 1 && reader.entry().is_changed()),
        "{good} {version:?}"
    );
    drop(reader);
    mount.end();
}

#[test]
fn file_larger_than_listed_is_read_to_its_end() {
    for listed in [0, 1, 100, 5 * C, 299_999] {
        let (dir, file) = (tempfile::tempdir().unwrap(), content(300_000));
        let server = Server::start(file.clone(), |_, _| Honest);
        let mount = Mount::over(dir.path());
        let reader = mount.listed(&server, listed);
        assert_eq!(read(&reader, 0, 1 << 20).unwrap(), file, "listed with {listed}");
        assert_eq!(mount.resized.load(Ordering::Relaxed), 1);
        // The answer that contradicts the listing is not read but requested again, without the
        // listed size.
        let ranges = server.asked();
        let asked: u64 = ranges[1..]
            .iter()
            .map(|range| range.end.min(300_000) - range.start)
            .sum();
        assert_eq!((asked, &ranges[0]), (300_000, &ranges[1]), "no byte twice");
        drop(reader);
        mount.end();
    }
}

#[test]
fn first_read_past_the_true_end_leaves_the_rest_readable() {
    for size in [0, 1, 300_000] {
        let (dir, file) = (tempfile::tempdir().unwrap(), content(size));
        let server = Server::start(file.clone(), |_, _| Honest);
        let mount = Mount::over(dir.path());
        let reader = mount.listed(&server, 64 << 20);
        assert!(matches!(read(&reader, 60 << 20, 5000), Err(ReadError::Changed)));
        assert_eq!(reader.entry().size(), size);
        match read(&reader, 0, 1 << 20) {
            Ok(bytes) => assert_eq!(bytes, file),
            // Its end is its beginning.
            Err(error) => assert!(size == 0 && matches!(error, ReadError::Changed), "{error:?}"),
        }
        assert!(!reader.entry().is_changed());
        drop(reader);
        mount.end();
    }
}

#[test]
fn first_fetch_past_the_end_is_isolated() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(300_000));
    let both = Barrier::new(2);
    let server = Server::start(file.clone(), move |before, _| {
        if before < 2 {
            both.wait();
        }
        Honest
    });
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 64 << 20);
    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(read(&reader, 60 << 20, 5000), Err(ReadError::Changed))));
        scope.spawn(|| assert_eq!(read(&reader, 0, 5000).unwrap(), part(&file, 0, 5000)));
    });
    drop(reader);
    mount.end();
}

#[test]
fn impossible_size_is_an_error_of_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Vec::new(), |_, _| Announce(i64::MAX as u64));
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 100);
    assert!(matches!(read(&reader, 0, 1), Err(ReadError::Store(_))));
    drop(reader);
    mount.end();
}

#[test]
fn a_version_that_is_known_is_compared_with_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(content(300_000), |_, _| Tagged("v2"));
    let mount = Mount::over(dir.path());
    let version = Version {
        size: 300_000,
        validator: Validator::Strong("\"v1\"".into()),
    };
    let held = mount.cache.current(&server.url, version, None);
    let origin = Origin::of(&server.url).unwrap();
    let entry = mount.cache.entry(server.content(), origin, &held).unwrap();
    let reader = mount.cache.reader(entry);
    assert!(matches!(read(&reader, 0, 10), Err(ReadError::Changed)));
    drop(reader);
    mount.end();
}
