# The service alone; Postgres runs beside it (docker-compose.yml).
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data HOST=0.0.0.0
WORKDIR /app

COPY requirements.txt requirements-detector.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt \
 && pip install --no-cache-dir --no-deps --require-hashes -r requirements-detector.txt \
 && useradd --create-home --uid 10001 imgindex \
 && install -d -o imgindex /data

COPY manage.py ./
COPY matching ./matching
COPY imgindex ./imgindex

USER imgindex
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready')"]
CMD ["python", "manage.py", "serve"]
