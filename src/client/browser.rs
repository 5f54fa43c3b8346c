//! Opens an address in the browser of whoever sits before this computer.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How to open a browser here: programs to try, each with its arguments.
pub(super) struct Browser(Vec<Vec<String>>);

impl Browser {
    /// Nothing where no browser could be seen: over SSH, in a container, without a display.
    pub(super) fn at_hand() -> Option<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // A list like that of xdg-open: programs between colons, `%s` for the address.
        if let Some(named) = set("BROWSER") {
            let programs = named.split(':').map(|one| one.split_whitespace().map(str::to_owned).collect());
            let programs: Vec<Vec<String>> =
                programs.filter(|words: &Vec<String>| !words.is_empty()).collect();
            return (!programs.is_empty()).then_some(Self(programs));
        }
        if set("SSH_CONNECTION").is_some() || set("SSH_TTY").is_some() {
            return None;
        }
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        if cfg!(windows) {
            return Some(Self(vec![words(&["rundll32", "url.dll,FileProtocolHandler"])]));
        }
        if cfg!(target_os = "macos") {
            return Some(Self(vec![words(&["open"])]));
        }
        let shows = ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"].iter().any(|name| set(name).is_some());
        let openers = ["xdg-open", "wslview", "gio", "x-www-browser"].into_iter();
        let found: Vec<_> = openers.filter(|name| shows && in_path(name).is_some()).collect();
        let programs =
            found.iter().map(|&name| if name == "gio" { words(&["gio", "open"]) } else { words(&[name]) });
        (!found.is_empty()).then(|| Self(programs.collect()))
    }

    /// Starts the first program that can be started. It is on its own from then on: Ctrl-C ends us, not the browser.
    pub(super) fn open(&self, address: &str) -> bool {
        self.0.iter().any(|words| {
            let mut words = words.iter();
            let Some(program) = words.next() else { return false };
            let mut arguments: Vec<_> = words.map(|word| word.replace("%s", address)).collect();
            if !arguments.iter().any(|argument| argument.contains(address)) {
                arguments.push(address.to_owned());
            }
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            #[cfg(unix)]
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            // Its end is awaited on a thread, so that it is no zombie while we wait for the user.
            let child = command.spawn();
            child.is_ok_and(|mut child| std::thread::Builder::new().spawn(move || child.wait()).is_ok())
        })
    }
}

/// A program of that name, where a shell would find it.
pub(super) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|folder| folder.join(&file)).find(|file| file.is_file())
}
