# One image for every worker, the journal and Flower; the command says which.
FROM python:3.12-slim AS wheels
WORKDIR /src
COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY postback postback
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[worker,journal]"

FROM python:3.12-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN --mount=from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "postback[worker,journal]"
# The wheel holds only postback; the other rooms run from the working directory.
WORKDIR /app
COPY config config
COPY tasks tasks
COPY workers workers
# The journal's SQLite file is in /data; a new volume takes its owner from here.
RUN useradd --system --uid 10001 postback && install -d -o postback /data
USER postback
# SIGTERM: finish the requests on the wire, hand the rest back.
STOPSIGNAL SIGTERM
CMD ["python", "-m", "workers", "tgtrack"]
