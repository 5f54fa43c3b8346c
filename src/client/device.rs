//! The hand-over by a code that is typed on another device (RFC 8628): over SSH, in containers.

use std::time::Duration;

use super::Failure;
use super::api::{Api, Granted, Polled};
use super::login::{Countdown, client_name, too_late};
use super::talk::Talk;
use crate::clock;

/// RFC 8628 section 3.5: what `slow_down` adds to the time between two questions.
const SLOWER: Duration = Duration::from_secs(5);

pub(super) async fn sign_in(api: &Api, timeout: Duration, talk: Talk) -> Result<Granted, Failure> {
    let device = api.begin_device(&client_name()).await?;
    let timeout = timeout.min(Duration::from_secs(device.expires_in_seconds));
    talk.say(format!(
        "On a device with a browser, open\n\n    {}\n\nand enter the code\n\n    {}\n\n\
         Enter it only on that page, and only because you started this yourself.\n",
        device.address,
        talk.bold(&device.user_code),
    ));
    let mut interval = Duration::from_secs(device.interval_seconds);
    let asked = async {
        loop {
            clock::pause(interval).await;
            match api.poll_device(&device).await? {
                Polled::Granted(granted) => return Ok(*granted),
                Polled::Pending => {}
                Polled::SlowDown => interval += SLOWER,
            }
        }
    };
    let countdown = Countdown { what: "Waiting for the code to be entered", timeout, talk };
    countdown.during(asked).await.unwrap_or_else(|| Err(too_late("Nobody entered the code")))
}
