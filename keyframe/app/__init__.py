"""The local page of `keyframe-app`: look at videos, choose keyframes, label, train.

What goes where; a file imports only from those above it:

- `web`: what every request passes (token, Host, Origin, headers), the HTML of pages, JSON in and out, errors.
- `decoder`: a process that looks into videos: stills, facts of files, previews.
- `workers`: lanes of long tasks, one at a time: scoring and exports (by `keyframe.extraction.engines.Worker`).
- `annotations`: the shots that annotators score, and their scores, in the journal and the label file.
- `library`: the videos under the given paths, by id, the models that score them, and how far each video is.
- a file per group of pages, each with `routes(library)`: `video` (player, curves, labels, previews; selection, export),
  `label` (scores of shots, agreement), `train` (training in a process of its own, runs and their reports).
- `server`: puts the routes together, opens the port, ends with Ctrl-C.
- `pages/NAME.html` is what is in a page, `static/NAME.js` its module; `page.html` and `common.js` are what all share.

The API speaks JSON under `/api/`. A video is named by its id, a hash of its path, never by a path. Whatever decodes
runs in another process. Text reaches a page by `textContent` only: the content security policy allows no inline script
or style.
"""
