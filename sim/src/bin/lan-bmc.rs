//! The BMC of `lastwords_sim::lan` behind a UDP port of the loopback address, for tools that want a socket: `lan-bmc SEL
//! [QUIRK]`. SEL is a file as `ipmitool sel writeraw` writes it. Prints the port; ends when standard input does.

use lastwords_sim::lan::{LanBmc, QUIRKS};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(path) = arguments.first() else {
        for (name, _) in QUIRKS {
            println!("{name}");
        }
        return Ok(());
    };
    let records =
        std::fs::read(path)?.chunks_exact(16).map(|record| std::array::from_fn(|at| record[at])).collect();
    let mut bmc = LanBmc::new(records);
    if let Some(name) = arguments.get(1) {
        let quirk = QUIRKS.iter().find(|(known, _)| known == name);
        quirk.ok_or_else(|| io::Error::other("no such quirk"))?.1(&mut bmc);
    }
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    println!("{}", socket.local_addr()?.port());
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let start = Instant::now();
    // What goes when, in order.
    let mut going: BTreeMap<(u64, u64), (Vec<u8>, SocketAddr)> = BTreeMap::new();
    let mut number = 0u64;
    loop {
        let now = start.elapsed().as_millis() as u64;
        while let Some(entry) = going.first_entry().filter(|entry| entry.key().0 <= now) {
            let (packet, to) = entry.remove();
            // Whoever has gone does not listen.
            let _ = socket.send_to(&packet, to);
        }
        let wait = going.first_key_value().map_or(1000, |((at, _), _)| at - now);
        socket.set_read_timeout(Some(Duration::from_millis(wait.max(1))))?;
        let mut buffer = [0; 2048];
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                for (at, packet) in bmc.receive(start.elapsed().as_millis() as u64, &buffer[..len]) {
                    number += 1;
                    going.insert((at, number), (packet, from));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // Nobody listens where the last answer went.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
}
