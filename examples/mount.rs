//! Mounts a web server's directory from a Rust program, until standard input ends or the mount is unmounted from outside.
//!
//! ```text
//! cargo run --example mount -- URL DIR [CACHE_DIR]
//! ```

use std::error::Error;
use std::io::{self, Read};
use std::sync::mpsc;
use std::thread;

use fetchfs::{Cache, Mount};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, mountpoint, rest @ ..] = arguments.as_slice() else {
        return Err("usage: mount URL DIR [CACHE_DIR]".into());
    };
    let mut cache = Cache::builder();
    if let [dir] = rest {
        cache = cache.dir(dir);
    }
    let cache = cache.open()?;
    let mount = Mount::builder()
        .source(url)
        .mountpoint(mountpoint)
        .cache(&cache)
        .spawn()?;
    println!("{}", mount.mountpoint().display());

    let (end, ended) = mpsc::channel();
    let by_input = end.clone();
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        by_input.send(()).ok();
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            mount.wait();
            end.send(()).ok();
        });
        ended.recv().ok();
        // Dropping the mount would do the same; here it also ends the wait above.
        mount.unmount();
    });
    Ok(())
}
