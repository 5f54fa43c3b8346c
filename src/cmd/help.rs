//! `entrada completions` and `entrada man`: what packagers and shells install.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  bash  source <(entrada completions bash)
  zsh   entrada completions zsh > \"${fpath[1]}/_entrada\"
  fish  entrada completions fish > ~/.config/fish/completions/entrada.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  entrada man > ~/.local/share/man/man1/entrada.1
  entrada man login > ~/.local/share/man/man1/entrada-login.1";

#[derive(Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(super) struct ManArgs {
    /// The page of a subcommand, instead of the program's own
    command: Option<String>,
}

pub(super) fn completions(args: &CompletionsArgs, mut program: Command) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, "entrada", &mut text);
    print(&text)
}

pub(super) fn man(args: &ManArgs, mut program: Command) -> ExitCode {
    program.build();
    let page = match &args.command {
        None => Some(program),
        Some(name) => {
            let found = program.find_subcommand(name).filter(|found| !found.is_hide_set());
            found.map(|found| {
                found.clone().name(format!("entrada-{name}")).bin_name(format!("entrada {name}"))
            })
        }
    };
    let Some(page) = page else {
        let _closed = writeln!(io::stderr(), "entrada: there is no such subcommand; see: entrada --help");
        return ExitCode::from(super::EXIT_USAGE);
    };
    let mut text = Vec::new();
    match clap_mangen::Man::new(page).render(&mut text) {
        Ok(()) => print(&text),
        Err(_) => ExitCode::FAILURE,
    }
}

fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // `entrada man | head` has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
