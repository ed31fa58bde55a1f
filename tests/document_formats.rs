//! Documents of the formats that other programs have: playlists, Metalinks, items of the Internet Archive.

use std::fs;
use std::time::Duration;

use fetchfs::internals::events;

use crate::common::files::{sha256, sha256_of, tree};
use crate::common::ground::Ground;
use crate::common::process::assert_refuses;
use crate::common::{Mount, run, wait_until};
use crate::documents::dead_server;
use crate::origin::{Content, Fault, Origin};

const MIB: u64 = 1 << 20;

#[test]
fn playlist_has_titles_and_headers() {
    let origin = Origin::start();
    origin.add("/m/1.mp3", "one");
    origin.add("/m/2.ogg", "two");
    origin.add("/m/bare.flac", "three");
    let playlist = "#EXTM3U\n#EXTINF:12,Artist - First\n\
                    #EXTVLCOPT:http-user-agent=Player/1.0\n#EXTVLCOPT:http-referrer=http://page/\n1.mp3\n\
                    #EXTINF:-1 group-title=\"a, b\",Second.ogg\n/m/2.ogg\nbare.flac\nrtmp://h/live\n";
    origin.add("/m/list.m3u", playlist);
    let mount = Mount::start_of(&origin.url("/m/list.m3u"));
    assert_eq!(tree(&mount.root()), ["Artist - First.mp3", "Second.ogg", "bare.flac"]);
    for (name, text) in [
        ("Artist - First.mp3", "one"),
        ("Second.ogg", "two"),
        ("bare.flac", "three"),
    ] {
        assert_eq!(fs::read_to_string(mount.path(name)).expect("to read"), text, "{name}");
    }
    mount.wait_for_event_with(events::NAMES_HIDDEN, "1 ", 1);
    let requests = origin.log().all();
    for get in requests.gets("/m/1.mp3") {
        assert_eq!(get.header("user-agent"), Some("Player/1.0"));
        assert_eq!(get.header("referer"), Some("http://page/"));
    }
    for get in requests.gets("/m/2.ogg") {
        assert!(
            get.header("user-agent")
                .is_some_and(|agent| agent.starts_with("fetchfs/"))
        );
        assert_eq!(get.header("referer"), None);
    }
    assert!(!requests.gets("/m/1.mp3").is_empty() && !requests.gets("/m/2.ogg").is_empty());
}

#[test]
fn playlist_in_a_playlist_is_a_directory() {
    let origin = Origin::start();
    origin.add(
        "/all.m3u",
        "#EXTM3U\n#EXTINF:1,Rock\nrock/rock.m3u8\n#EXTINF:1,Radio\nradio.m3u8\nnone.m3u\nall.m3u\n",
    );
    origin.add("/rock/rock.m3u8", "#EXTM3U\n#EXTINF:1,Song\nsong.mp3\n../all.m3u\n");
    origin.add("/rock/song.mp3", "la la");
    origin.add(
        "/radio.m3u8",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nradio1.ts\n",
    );
    let mount = Mount::of(&origin.url("/all.m3u")).with("--attr-ttl", "0").start();
    let expected = [
        "Radio.m3u8",
        "Rock/",
        "Rock/Song.mp3",
        "Rock/all.m3u",
        "all.m3u",
        "none.m3u",
    ];
    // A listed file that the server lacks is hidden once it was asked for.
    let shown = tree(&mount.root());
    assert!(shown.iter().all(|name| expected.contains(&name.as_str())), "{shown:?}");
    assert_eq!(
        fs::read_to_string(mount.path("Rock/Song.mp3")).expect("to read"),
        "la la"
    );
    let refusal = run(&mut Ground::new().command(&origin.url("/radio.m3u8"), &[]));
    assert_refuses(&refusal, &["radio.m3u8", "HLS media playlist, one stream in 1 pieces"]);
    origin.add("/rock/rock.m3u8", "#EXTINF:1,Other\nsong.mp3\n");
    wait_until("the new playlist", || mount.path("Rock/Other.mp3").exists());
}

fn metalink_4(origin: &Origin, dead: &str, content: &Content) -> String {
    let digits: String = sha256_of(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n\
         <file name=\"iso/image.iso\"><size>{}</size><hash type=\"sha-256\">{digits}</hash>\n\
         <url priority=\"2\" location=\"de\">{}</url><url priority=\"1\">{dead}</url>\n\
         <url>ftp://h/image.iso</url></file></metalink>",
        content.size(),
        origin.url("/mirror/image.iso")
    )
}

#[test]
fn metalink_reads_the_next_mirror_if_one_is_dead() {
    let (origin, content) = (Origin::start(), Content::noise(4 * MIB, 6));
    let (_dead, dead) = dead_server();
    origin.add("/mirror/image.iso", content.clone());
    let four = metalink_4(&origin, &dead, &content);
    let three = format!(
        "<metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\"><files><file name=\"iso/image.iso\">\n\
         <size>{}</size><resources><url type=\"http\" preference=\"100\">{dead}</url>\n\
         <url type=\"http\" preference=\"10\">{}</url></resources></file></files></metalink>",
        content.size(),
        origin.url("/mirror/image.iso")
    );
    for (path, metalink) in [("/four.meta4", &four), ("/three.metalink", &three)] {
        origin.add(path, metalink.as_str());
        let mount = Mount::of(&origin.url(path)).with("--retries", "1").start();
        assert_eq!(tree(&mount.root()), ["iso/", "iso/image.iso"], "{path}");
        assert_eq!(
            fs::metadata(mount.path("iso/image.iso")).expect("to stat").len(),
            4 * MIB
        );
        assert_eq!(sha256(&mount.path("iso/image.iso")), sha256_of(&content), "{path}");
    }
}

#[test]
fn preferred_location_is_asked_first() {
    let (near, far, content) = (Origin::start(), Origin::start(), Content::noise(MIB, 7));
    near.add("/mirror/image.iso", content.clone());
    far.add("/image.iso", content.clone());
    near.add("/x.meta4", metalink_4(&near, &far.url("/image.iso"), &content).as_str());
    let mount = Mount::of(&near.url("/x.meta4"))
        .with("--metalink-location", "fr,DE")
        .start();
    assert_eq!(sha256(&mount.path("iso/image.iso")), sha256_of(&content));
    assert!(far.log().all().0.is_empty() && !near.log().all().data("/mirror/image.iso").is_empty());
}

/// RFC 6249, as redirectors to mirrors do it.
#[test]
fn metalink_is_found_by_the_link_header() {
    let (origin, content) = (Origin::start(), Content::noise(2 * MIB, 8));
    let (_dead, dead) = dead_server();
    origin.add("/mirror/image.iso", content.clone());
    origin.add("/x.meta4", metalink_4(&origin, &dead, &content).as_str());
    let link = "</x.meta4>; rel=describedby; type=\"application/metalink4+xml\"";
    origin.on("/image.iso").fault(Fault::Header("Link", link));
    origin.add("/image.iso", content.clone());
    let mount = Mount::of(&origin.url("/image.iso")).with("--retries", "1").start();
    assert_eq!(tree(&mount.root()), ["iso/", "iso/image.iso"]);
    assert_eq!(sha256(&mount.path("iso/image.iso")), sha256_of(&content));
    // A Metalink that can't be used takes nothing away.
    origin.remove("/x.meta4");
    let mount = Mount::start_of(&origin.url("/image.iso"));
    assert_eq!(tree(&mount.root()), ["image.iso"]);
    assert_eq!(mount.events(events::METALINK_UNUSABLE), 1);
}

#[test]
fn archive_item_is_a_tree() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 9));
    origin.add("/data/song.mp3", content.clone());
    let item = format!(
        "{{\"files\": [{{\"name\": \"disc 1/song #1.mp3\", \"size\": \"{MIB}\", \"mtime\": \"1286000000\"}},\n\
         {{\"name\": \"secret\", \"size\": \"1\", \"private\": \"true\"}}]}}"
    );
    origin.add("/metadata/my_item", item.as_str());
    let elsewhere = origin.url("/data/song.mp3");
    origin
        .on("/download/my_item/disc 1/song #1.mp3")
        .fault(Fault::Redirect(302, elsewhere));
    for page in ["/details/my_item", "/download/my_item"] {
        let mount = Mount::of(&origin.url(page)).with("--type", "archive").start();
        assert_eq!(tree(&mount.root()), ["disc 1/", "disc 1/song #1.mp3"]);
        let file = mount.path("disc 1/song #1.mp3");
        let modified = fs::metadata(&file).expect("to stat").modified().expect("a date");
        assert_eq!(modified, std::time::UNIX_EPOCH + Duration::from_secs(1_286_000_000));
        assert_eq!(sha256(&file), sha256_of(&content));
    }
    let none = run(&mut Ground::new().command(&origin.url("/details/none"), &["--type", "archive"]));
    assert_refuses(&none, &["/metadata/none", "404"]);
}
