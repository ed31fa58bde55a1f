//! How answers are judged: HEAD, ranges, codings, heads.

use std::fs;

use crate::common::Mount;
use crate::common::servers::WebServer;

/// The server that most cases share serves `/f.bin` right when nothing is bent.
#[test]
fn a_plain_case_server_is_read() {
    let server = WebServer::case("coding-names-nothing.py", &["identity", "PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    assert_eq!(fs::read(mount.path("f.bin")).expect("its bytes").len(), 4 << 20);
}
