//! Checks that the committed manual and completions match the command line.
//!
//! `PFS_REGENERATE=1 cargo test -p pfsd --test generated` regenerates them.

#![allow(clippy::unwrap_used, reason = "a panic fails the test, also in a helper")]

use std::{env, fs, path::Path};

use clap_complete::{Shell, generate};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

fn compare(file: &str, fresh: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if env::var_os("PFS_REGENERATE").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, fresh).unwrap();
        return;
    }
    let kept = fs::read(&path).unwrap_or_default();
    assert!(kept == fresh, "{file} is out of date; regenerate it with PFS_REGENERATE=1");
}

#[test]
fn the_manual_is_up_to_date() {
    let source = concat!("pfs ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(pfsd::args::command()).manual("pfs").source(source);
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    for (heading, lines) in pfsd::args::MANUAL {
        let mut section = Roff::new();
        section.control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
        section.text(lines.split_inclusive('\n').map(roman).collect::<Vec<_>>()).control("fi", []);
        section.to_writer(&mut page).unwrap();
    }
    let mut end = Roff::new();
    end.control("SH", ["SEE ALSO"]).text([roman("pfs(1)")]);
    end.to_writer(&mut page).unwrap();
    compare("man/pfsd.1", &page);
}

#[test]
fn the_completions_are_up_to_date() {
    for (shell, file) in
        [(Shell::Bash, "pfsd.bash"), (Shell::Zsh, "_pfsd"), (Shell::Fish, "pfsd.fish")]
    {
        let mut script = Vec::new();
        generate(shell, &mut pfsd::args::command(), "pfsd", &mut script);
        compare(&format!("completions/{file}"), &script);
    }
}
