"""From the release before to this one, with its data and under load.

`previous.tar.xz` is the program of that release, for checkouts without history. After a release, in this folder:
`(cd ../.. && git archive vX.Y.Z signup templates migrations wsgi.py gunicorn.conf.py) | xz -9 > previous.tar.xz`
"""
