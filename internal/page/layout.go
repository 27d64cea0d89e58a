package page

// layout is the page. On a narrow screen each row of a table is a card, so that nothing is wider than the screen. The policy
// forbids the browser to load or run anything, whatever the text is.
const layout = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{{text .Title}}</title>
<style>
:root { --ground: #ffffff; --panel: #f4f5f7; --ink: #1b1f24; --soft: #57606a; --line: #d5d9de;
  --good: #00694d; --bad: #a83a00; --warning: #7a5200; --unknown: #4a4f57;
  --good-ground: #dff3ec; --bad-ground: #fce4d8; --warning-ground: #fbf0d0; --unknown-ground: #e8eaed; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --panel: #1e2226; --ink: #e6e8ea; --soft: #a4abb3; --line: #363c43;
  --good: #5fd6ae; --bad: #ff9e6b; --warning: #f0c75e; --unknown: #b8bec6;
  --good-ground: #10352a; --bad-ground: #44200f; --warning-ground: #3b2f0c; --unknown-ground: #2c3137; } }
* { box-sizing: border-box; }
html { background: var(--ground); color: var(--ink); }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.made { color: var(--soft); margin: 0 0 1rem; }
.verdict { border-left: .35rem solid; border-radius: .25rem; font-size: 1.1rem; font-weight: 600; margin: 0 0 1rem; padding: .6rem .9rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .warning { color: var(--warning); } .unknown { color: var(--unknown); }
.verdict.good { background: var(--good-ground); } .verdict.bad { background: var(--bad-ground); }
.verdict.warning { background: var(--warning-ground); } .verdict.unknown { background: var(--unknown-ground); }
td.good, td.bad, td.warning, td.unknown { font-weight: 600; }
.sign { display: inline-block; width: 1.1em; }
dl { background: var(--panel); border-radius: .25rem; display: grid; gap: .15rem 1.25rem; grid-template-columns: max-content minmax(0, 1fr); margin: 0; padding: .75rem .9rem; }
dt { color: var(--soft); } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; }
th { color: var(--soft); font-size: .85rem; font-weight: 600; text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .75rem .4rem 0; vertical-align: top; }
th { overflow-wrap: normal; white-space: nowrap; }
td.short { white-space: nowrap; }
.note { color: var(--soft); display: block; font-size: .9em; font-weight: 400; }
.none { color: var(--soft); margin: 0; }
footer { border-top: 1px solid var(--line); color: var(--soft); font-size: .85rem; margin-top: 2.5rem; padding-top: .75rem; }
@media screen and (max-width: 66rem) {
  body { padding: 1rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .4rem; }
  table, tbody, tr, td { display: block; } thead { display: none; }
  tr { border: 1px solid var(--line); border-radius: .25rem; margin-bottom: .6rem; padding: .3rem .7rem; }
  td { border: 0; padding: .15rem 0; } td:empty { display: none; }
  td::before { color: var(--soft); content: attr(data-label); display: block; font-size: .8rem; font-weight: 400; }
}
@media print {
  :root { --ground: #ffffff; --panel: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --good: #00694d; --bad: #a83a00; --warning: #7a5200; --unknown: #4a4f57; }
  body { font-size: 10.5pt; max-width: none; padding: 0; }
  dl { border: 1px solid var(--line); } .verdict { background: none !important; border: 1px solid; }
  tr, dl, .verdict { break-inside: avoid; } h2 { break-after: avoid; } thead { display: table-header-group; }
}
</style>
</head>
<body>
<header>
<h1>{{text .Title}}</h1>
<p class="made">{{stamp .Made}}</p>
</header>
<main>
{{with .Verdict}}<p class="verdict {{$.State}}"><span class="sign" aria-hidden="true">{{sign $.State}}</span> {{text .}}</p>
{{end}}{{with .Facts}}<dl>
{{range .}}{{if .Value}}<dt>{{text .Name}}</dt><dd>{{text .Value}}</dd>
{{end}}{{end}}</dl>
{{end}}{{range $section := .Sections}}{{if or .Rows .Empty}}<section>
<h2>{{text .Title}}</h2>
{{if .Rows}}<table>
<thead><tr>{{range .Columns}}<th scope="col">{{text .}}</th>{{end}}</tr></thead>
<tbody>
{{range .Rows}}<tr>{{range $i, $cell := .}}<td data-label="{{text (label $section $i)}}" class="{{.State}}{{if short .Text}} short{{end}}">{{with .State}}<span class="sign" aria-hidden="true">{{sign .}}</span> {{end}}{{text .Text}}{{with .Note}}<span class="note">{{text .}}</span>{{end}}</td>{{end}}</tr>
{{end}}</tbody>
</table>
{{else}}<p class="none">{{text .Empty}}</p>
{{end}}</section>
{{end}}{{end}}</main>
<footer>Made by {{text .By}}. Secrets are hidden; addresses and names are not.</footer>
</body>
</html>
`
