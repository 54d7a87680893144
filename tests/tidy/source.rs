//! Reads the tree as text, far enough for the rules: code without comments and strings, and the paths it names.

use std::fs;
use std::path::Path;

pub struct File {
    /// From the top of the tree, with `/`.
    pub path: String,
    pub raw: String,
    /// For Rust: `raw` with comments, strings and character literals blanked, every line where it was.
    pub code: String,
    /// `code` with `#[cfg(test)]` items blanked.
    pub shipped: String,
    /// `["session", "actor"]` for `src/session/actor.rs`; empty for `src/lib.rs` and outside `src/`.
    pub module: Vec<String>,
    /// Line and path, from the top of the crate, of everything that the file names by a path of ours.
    pub imports: Vec<(usize, Vec<String>)>,
}

impl File {
    pub fn new(path: &str, raw: &str) -> File {
        let rust = is_rust(path);
        let code = if rust { blank(raw) } else { String::new() };
        let shipped = if path.ends_with("/tests.rs") { String::new() } else { without_tests(&code) };
        let inside = path.strip_prefix("src/").filter(|p| rust && *p != "lib.rs").unwrap_or("");
        let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Vec<String> = inside.split('/').filter(|s| !s.is_empty()).map(Into::into).collect();
        let imports = if module.is_empty() { Vec::new() } else { imports(&code, &module) };
        File { path: path.into(), raw: raw.into(), code, shipped, module, imports }
    }
}

/// Every text file of the tree that is ours to write.
pub fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(root, root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<File>) {
    const NOT_OURS: &[&str] = &[".git", ".tools", "target", "corpus", "artifacts", "pileway-data"];
    for entry in fs::read_dir(dir).expect("a directory of the tree can be listed") {
        let entry = entry.expect("a directory of the tree can be listed");
        let path = entry.path();
        if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let inside = path.strip_prefix(root).expect("the walk starts at the root");
            files.push(File::new(&inside.to_string_lossy(), &text));
        }
    }
}

pub fn is_rust(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| extension == "rs")
}

/// Where `word` begins in `code`, if it is not a part of a longer word.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = word.starts_with(is_ident) && code[..*at].ends_with(is_ident);
        let after = word.ends_with(is_ident) && code[at + word.len()..].starts_with(is_ident);
        !before && !after
    })
}

pub fn has_word(code: &str, word: &str) -> bool {
    words(code, word).next().is_some()
}

/// Counted from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

/// Where the bracket that opens at `open` closes. Only for blanked code: a bracket in a string would count.
pub fn close(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, b) in code[open..].bytes().enumerate() {
        match b {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(open + i);
        }
    }
    None
}

/// Paths that start at `crate::`, `super::` or `self::` (in `main.rs`: at the name of the library).
fn imports(code: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    // The ranges of inline modules: inside of one, `super` reaches one step less far.
    let inline: Vec<(usize, usize)> = words(code, "mod")
        .filter_map(|at| Some(at + code[at..].find(['{', ';'])?))
        .filter(|open| code[*open..].starts_with('{'))
        .filter_map(|open| Some((open, close(code, open)?)))
        .collect();
    let is_main = module == ["main"];
    let root = if is_main { "pileway::" } else { "crate::" };

    let mut found = Vec::new();
    for start in [root, "super::", "self::"] {
        // A start after `::` is the middle of a path that was met at its beginning.
        for at in words(code, start).filter(|at| !code[..*at].ends_with("::")) {
            let mut rest = &code[at + start.len()..];
            let mut base = &module[..0];
            if start != root {
                let mut up = usize::from(start == "super::");
                while let Some(next) = rest.strip_prefix("super::") {
                    (rest, up) = (next, up + 1);
                }
                let depth = inline.iter().filter(|(open, end)| (*open..*end).contains(&at)).count();
                if up < depth || is_main {
                    continue; // it stays inside of this file
                }
                base = &module[..module.len().saturating_sub(up - depth)];
            }
            let paths = use_tree(rest, base);
            found.extend(paths.into_iter().filter(|p| !p.is_empty()).map(|p| (line_of(code, at), p)));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// `a::{b, c::d}` below `base` is `base::a::b` and `base::a::c::d`.
fn use_tree(text: &str, base: &[String]) -> Vec<Vec<String>> {
    let text = text.trim_start();
    if text.starts_with('{') {
        let inner = &text[1..close(text, 0).unwrap_or(text.len())];
        let mut depth = 0;
        let branches = inner.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        return branches.flat_map(|branch| use_tree(branch, base)).collect();
    }
    let end = text.find(|c| !is_ident(c)).unwrap_or(text.len());
    let mut path = base.to_vec();
    if end > 0 && &text[..end] != "self" {
        path.push(text[..end].to_owned());
    }
    match text[end..].strip_prefix("::") {
        Some(rest) if end > 0 => use_tree(rest, &path),
        _ => vec![path],
    }
}

/// Blanks every item under `#[cfg(test)]`: up to its semicolon, or to the end of its braces.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let mut end = at + MARK.len();
        end += loop {
            let Some(next) = rest[end..].find(['{', ';', '(', '[']) else {
                break rest.len() - end;
            };
            match rest.as_bytes()[end + next] {
                b';' => break next + 1,
                b'{' => break close(rest, end + next).map_or(rest.len(), |i| i + 1) - end,
                _ => end = close(rest, end + next).map_or(rest.len(), |i| i + 1),
            }
        };
        out.push_str(&rest[..at]);
        out.extend(rest[at..end].chars().map(hidden));
        rest = &rest[end..];
    }
    out + rest
}

/// Blanks comments, strings and character literals.
fn blank(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        if let Some(len) = comment(rest).or_else(|| literal(rest, &out)) {
            out.extend(rest[..len].chars().map(hidden));
            rest = &rest[len..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The length of the comment at the beginning of `text`, if there is one.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let mut depth = 0;
    let mut at = 0;
    loop {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if depth == 0 {
            return (at > 0).then_some(at);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += text[at..].chars().next().map_or(usize::MAX, char::len_utf8);
        }
    }
}

/// The length of the string or character literal at the beginning of `text`, if there is one after `before`.
fn literal(text: &str, before: &str) -> Option<usize> {
    let quoted = |quote: char| {
        let mut escaped = false;
        for (i, c) in text.char_indices().skip(1) {
            if c == quote && !escaped {
                return i + 1;
            }
            escaped = c == '\\' && !escaped;
        }
        text.len()
    };
    if text.starts_with('"') {
        return Some(quoted('"'));
    }
    if let Some(inside) = text.strip_prefix('\'') {
        let mut next = inside.chars();
        let is_char = next.next() == Some('\\') || next.next() == Some('\'');
        return is_char.then(|| quoted('\'')); // else it is a lifetime
    }
    let is_prefix = !before.trim_end_matches(['b', 'c']).ends_with(is_ident);
    let hashes = text.strip_prefix('r').filter(|_| is_prefix)?;
    let inside = hashes.trim_start_matches('#');
    let end = format!("\"{}", &hashes[..hashes.len() - inside.len()]);
    let inside = inside.strip_prefix('"')?;
    let start = text.len() - inside.len();
    Some(inside.find(&end).map_or(text.len(), |i| start + i + end.len()))
}

fn hidden(c: char) -> char {
    if c == '\n' { c } else { ' ' }
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
