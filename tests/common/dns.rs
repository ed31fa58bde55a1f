//! A DNS server on loopback whose records can change.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, Record};
use parking_lot::Mutex;

use super::servers::free_port;

/// Time to live of the records: fetchfs has a minimum of its own.
const TTL: u32 = 0;

/// How often the server looks whether it has to end.
const PAUSE: Duration = Duration::from_millis(20);

/// A running server; ends when dropped.
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<Zone>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Zone {
    records: Mutex<HashMap<Name, Vec<RData>>>,
    fails: AtomicBool,
}

impl DnsServer {
    /// An address at which a server can be started later.
    pub fn free_address() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
    }

    /// A server without records.
    pub fn start() -> DnsServer {
        DnsServer::at(DnsServer::free_address())
    }

    /// A server without records at this address.
    #[track_caller]
    pub fn at(address: SocketAddr) -> DnsServer {
        let socket = UdpSocket::bind(address).expect("a free port");
        socket.set_read_timeout(Some(PAUSE)).expect("a timeout");
        let (zone, ends) = (Arc::<Zone>::default(), Arc::<AtomicBool>::default());
        let (of_thread, ends_too) = (Arc::clone(&zone), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut number = 0;
            while !ends_too.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                number += 1;
                if let Some(answer) = of_thread.answer(&buffer[..length], number) {
                    // The client may have ended.
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        DnsServer {
            address,
            zone,
            ends,
            thread: Some(thread),
        }
    }

    /// Its address, as in `dns://ADDRESS/NAME`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a name these addresses, and no other records.
    pub fn set_addresses(&self, name: &str, addresses: &[IpAddr]) {
        self.set(name, addresses.iter().copied().map(RData::from).collect());
    }

    /// Gives a name these services (priority, weight, port, target), and no other records.
    pub fn set_services(&self, name: &str, services: &[(u16, u16, u16, &str)]) {
        let service = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let target = Name::from_ascii(target).expect("a name");
            RData::SRV(SRV::new(priority, weight, port, target))
        };
        self.set(name, services.iter().map(service).collect());
    }

    /// Answers all questions with SERVFAIL, or no longer does.
    pub fn set_failing(&self, fails: bool) {
        self.zone.fails.store(fails, Ordering::Relaxed);
    }

    fn set(&self, name: &str, records: Vec<RData>) {
        let mut name = Name::from_ascii(name).expect("a name");
        name.set_fqdn(true);
        self.zone.records.lock().insert(name, records);
    }
}

impl Zone {
    /// The answer to a question: the records in another order each time, as many servers do.
    fn answer(&self, question: &[u8], number: usize) -> Option<Vec<u8>> {
        let asked = Message::from_vec(question).ok()?;
        let query = asked.queries.first()?.clone();
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.add_query(query.clone());
        let records = self.records.lock();
        match records.get(query.name()) {
            _ if self.fails.load(Ordering::Relaxed) => answer.metadata.response_code = ResponseCode::ServFail,
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(records) => {
                let fitting = records.iter().filter(|data| data.record_type() == query.query_type());
                let mut fitting: Vec<_> = fitting.cloned().collect();
                let turn = number % fitting.len().max(1);
                fitting.rotate_left(turn);
                let record = |data| Record::from_rdata(query.name().clone(), TTL, data);
                answer.add_answers(fitting.into_iter().map(record));
            }
        }
        answer.to_vec().ok()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
