//! The way to the BMC through Linux' driver: /dev/ipmi0.

use super::{Error, Request, Transport};
use crate::sys;
use std::{fs::File, io, path::Path, time::Instant};

/// Longest answer that is taken; the driver's own limit is 272 (IPMI_MAX_MSG_LENGTH).
const ANSWER_LEN: usize = 272;

/// The open device.
pub struct Device {
    file: File,
    path: String,
    /// The last request's number, by which its answer is known.
    sent: i64,
}

impl Device {
    /// Opens it.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        match File::options().read(true).write(true).open(path) {
            Ok(file) => Ok(Self { file, path: name, sent: 0 }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Error::Permission(name)),
            Err(error) => Err(Error::Open(name, error)),
        }
    }

    fn error(&self, error: io::Error) -> Error {
        Error::Io(self.path.clone(), error)
    }
}

impl Transport for Device {
    fn transfer(&mut self, request: Request<'_>, deadline: Instant) -> Result<Vec<u8>, Error> {
        self.sent += 1;
        let Request { net_fn, cmd, data } = request;
        sys::ipmi_send(&self.file, self.sent, net_fn, cmd, data).map_err(|error| self.error(error))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !sys::readable(&self.file, left).map_err(|error| self.error(error))? {
                return Err(Error::Silent(request.name()));
            }
            let mut answer = [0; ANSWER_LEN];
            match sys::ipmi_receive(&self.file, &mut answer) {
                // An earlier request's answer, that came too late, is not ours.
                Ok((sent, len)) if sent == Some(self.sent) => return Ok(answer[..len].to_vec()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.error(error)),
            }
        }
    }
}
