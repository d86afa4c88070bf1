//! The connection to the BMC through Linux' driver: /dev/ipmi0.

use super::{BmcError, System, error::os};
use crate::sys;
use lastwords_core::{
    budget::{Millis, Timer},
    ipmi::{TransferError, Transport, message::Request},
};
use std::{fs::File, io, path::Path, time::Instant};

/// Longest answer that is taken; the driver's own limit is 272 (IPMI_MAX_MSG_LENGTH).
const ANSWER_LEN: usize = 272;

/// The open device.
pub struct Device {
    file: File,
    /// The last request's number, by which its answer is known.
    sent: i64,
}

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    /// [`BmcError::Permission`], [`BmcError::Open`].
    pub fn open(path: &Path) -> Result<Self, BmcError> {
        let name = path.display().to_string();
        match File::options().read(true).write(true).open(path) {
            Ok(file) => Ok(Self { file, sent: 0 }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(BmcError::Permission(name)),
            Err(error) => Err(BmcError::Open(name, error)),
        }
    }
}

impl Transport<System> for Device {
    fn transfer(
        &mut self,
        system: &mut System,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        let request = Request::decode(request).ok_or(TransferError::State(0))?;
        self.sent += 1;
        sys::ipmi_send(&self.file, self.sent, request.net_fn.0, request.cmd, request.data)
            .map_err(|error| os(&error))?;
        let end = system.instant(timer, deadline);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !sys::readable(&self.file, left).map_err(|error| os(&error))? {
                return Err(TransferError::Timeout);
            }
            let mut answer = [0; ANSWER_LEN];
            match sys::ipmi_receive(&self.file, &mut answer) {
                // An earlier request's answer, that came too late, is not ours.
                Ok((sent, len)) if sent == Some(self.sent) => {
                    return request.put_answer(&answer[..len], reply).ok_or(TransferError::TooLong);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(os(&error)),
            }
        }
    }
}
