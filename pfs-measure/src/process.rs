//! Processor time (CPU time) of a process.
#![allow(unsafe_code)]

use std::{io, time::Duration};

/// Returns the processor time that a process and its threads have used. Works until the process has
/// been waited for.
///
/// # Errors
///
/// The process does not exist, or the system does not report its time.
#[cfg(target_os = "linux")]
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    // For 0 and negative numbers, the system would return the clock of the calling process.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write to a local variable only.
    let (clock_error, time_error) = unsafe {
        let error = libc::clock_getcpuclockid(pid, &mut clock);
        (error, if error == 0 { libc::clock_gettime(clock, &mut time) } else { 0 })
    };
    if clock_error != 0 {
        return Err(io::Error::from_raw_os_error(clock_error));
    }
    if time_error != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Not supported: only Linux reports the processor time of another process.
///
/// # Errors
///
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn cpu_time(_: u32) -> io::Result<Duration> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, id};

    use super::*;

    #[test]
    fn a_process_that_works_uses_processor_time() {
        let before = cpu_time(id()).unwrap();
        while cpu_time(id()).unwrap() == before {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_process_that_was_waited_for_has_no_processor_time() {
        let mut child = Command::new("true").spawn().unwrap();
        assert!(cpu_time(child.id()).is_ok());
        child.wait().unwrap();
        assert!(cpu_time(child.id()).is_err());
    }

    #[test]
    fn a_pid_of_no_process_is_not_taken_for_this_process() {
        for pid in [0, u32::MAX] {
            assert!(cpu_time(pid).is_err(), "{pid}");
        }
    }
}
