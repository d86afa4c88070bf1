//! A BMC of our own at the other end of QEMU's socket: it remembers every request with its time, and answers, or
//! not, as a test wants.
//!
//! The protocol is OpenIPMI's for virtual machines (`lanserv/README.vm`): messages and control commands, each ended
//! by a framing byte.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What came before was an IPMI message.
const END_OF_MESSAGE: u8 = 0xa0;
/// What came before was a control command.
const END_OF_COMMAND: u8 = 0xa1;
/// The next byte has bit 4 set that does not belong to it.
const ESCAPE: u8 = 0xaa;
const ESCAPE_BIT: u8 = 0x10;

/// A request that the machine sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was whole.
    pub at: Instant,
    /// Network function.
    pub netfn: u8,
    /// Command.
    pub command: u8,
    /// What follows the command.
    pub data: Vec<u8>,
}

/// What a BMC does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Answers: the completion code, and the data.
    Say(Vec<u8>),
    /// Answers after a while; nothing else is answered meanwhile.
    Late(Duration, Vec<u8>),
    /// Never answers.
    Silence,
    /// Answers, but to a request with this network function and command.
    ToAnother(u8, u8, Vec<u8>),
    /// Falls off the line without an answer. A second later QEMU finds it again.
    HangUp,
}

/// How a BMC behaves.
pub type Manner = Box<dyn FnMut(&Request) -> Answer + Send>;

/// A BMC that waits for a machine at a socket, serves it, and ends with it.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Recording {
    /// Starts one with its socket in this folder.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(folder: &Path, mut manner: Manner) -> Result<Self> {
        let path = folder.join("bmc");
        let listener = UnixListener::bind(&path).context("cannot make the BMC's socket")?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // The machine's end closes the stream: an error then is nothing to tell anybody.
                if !serve(stream, &log, &mut manner).is_ok_and(|hung_up| hung_up) {
                    break;
                }
            }
        });
        Ok(Self { path, requests })
    }

    /// Where QEMU finds it.
    #[must_use]
    pub fn socket(&self) -> String {
        format!("path={}", self.path.display())
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves until the other end closes the stream, or the BMC hangs up: then it returns true.
fn serve(mut stream: UnixStream, log: &Mutex<Vec<Request>>, manner: &mut Manner) -> std::io::Result<bool> {
    let mut frame = Vec::new();
    let mut escaped = false;
    let mut buffer = [0; 256];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        for &byte in &buffer[..count] {
            match byte {
                ESCAPE => escaped = true,
                END_OF_COMMAND => frame.clear(), // power, reset, capabilities: nothing to do
                END_OF_MESSAGE => {
                    if let Some((number, request)) = parse(&frame) {
                        log.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                        let (netfn, command) = (request.netfn, request.command);
                        let said = match manner(&request) {
                            Answer::Say(said) => Some(response(number, netfn, command, &said)),
                            Answer::Late(delay, said) => {
                                thread::sleep(delay);
                                Some(response(number, netfn, command, &said))
                            }
                            Answer::Silence => None,
                            Answer::ToAnother(netfn, command, said) => {
                                Some(response(number, netfn, command, &said))
                            }
                            Answer::HangUp => return Ok(true),
                        };
                        if let Some(said) = said {
                            stream.write_all(&said)?;
                        }
                    }
                    frame.clear();
                }
                _ => {
                    frame.push(if escaped { byte & !ESCAPE_BIT } else { byte });
                    escaped = false;
                }
            }
        }
    }
}

/// Takes a frame apart: sequence number, network function and LUN, command, data, checksum.
fn parse(frame: &[u8]) -> Option<(u8, Request)> {
    let (checksum, rest) = frame.split_last()?;
    if checksum.wrapping_add(sum(rest)) != 0 {
        return None;
    }
    let [number, function, command, data @ ..] = rest else { return None };
    let request =
        Request { at: Instant::now(), netfn: function >> 2, command: *command, data: data.to_vec() };
    Some((*number, request))
}

fn response(number: u8, netfn: u8, command: u8, said: &[u8]) -> Vec<u8> {
    let mut message = vec![number, (netfn | 1) << 2, command];
    message.extend(said);
    message.push(sum(&message).wrapping_neg());
    let mut frame = Vec::new();
    for byte in message {
        if matches!(byte, END_OF_MESSAGE | END_OF_COMMAND | ESCAPE) {
            frame.extend([ESCAPE, byte | ESCAPE_BIT]);
        } else {
            frame.push(byte);
        }
    }
    frame.push(END_OF_MESSAGE);
    frame
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::bmc::manners::{netfn, obedient};

    #[test]
    fn requests_are_unframed_and_answers_framed() {
        let folder = tempfile::tempdir().unwrap();
        let bmc = Recording::start(folder.path(), obedient()).unwrap();
        let mut machine = UnixStream::connect(&bmc.path).unwrap();
        // A control command, then Add SEL Entry with a byte that needs the escape.
        let mut message = vec![0x08, 0x1f, END_OF_COMMAND, 7, netfn::STORAGE << 2, 0x44, ESCAPE, 0xb0];
        message.push(sum(&[7, netfn::STORAGE << 2, 0x44, 0xa0]).wrapping_neg());
        message.push(END_OF_MESSAGE);
        machine.write_all(&message).unwrap();
        let mut answer = [0; 8];
        machine.read_exact(&mut answer).unwrap();
        let requests = bmc.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(
            (requests[0].netfn, requests[0].command, &requests[0].data[..]),
            (0x0a, 0x44, &[0xa0][..])
        );
        assert_eq!(&answer[..6], &[7, 0x0b << 2, 0x44, 0, 1, 0]);
        assert_eq!(sum(&answer[..7]), 0, "checksum");
        assert_eq!(answer[7], END_OF_MESSAGE);
    }

    #[test]
    fn a_frame_with_a_wrong_checksum_is_no_request() {
        assert!(parse(&[1, 0x18, 1, 0]).is_none());
        assert!(parse(&[]).is_none());
    }
}
